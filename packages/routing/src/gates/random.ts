/**
 * @file Random routing: every token (or sequence) goes to `K` experts drawn evenly. THOR (Zuo et al. 2021, 2110.04260) trains experts this
 * way, with a consistency loss of its own; it is also the baseline of every gate.
 *
 * In training a draw is a function of seed, step, micro-batch and layer. Outside it, where a router may not be random, it is a function of layer
 * and place: the same for the same batch. Weights are `1 / K`.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k.
 */
import { parseConfig, z } from '@moebius/core';
import type { Rng } from '@moebius/core';
import { assertDivides } from '@moebius/tensor';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { composeRouter } from './compose-router.ts';
import { topKOption } from './gate-family.ts';
import { constantScorer } from './scorers.ts';
import type { ChooseInput } from './stages.ts';
import { chooseEach, distinctExperts, mixBits } from './token-hash.kernel.ts';
import { weighScores } from './weighs.ts';

const scopes = ['token', 'sequence'] as const;

/**
 * Random routing by name, `random`. Options: `topK` (default: the model's), `scope` `token` (default) or `sequence`, whose tokens share one draw;
 * `seed` of the draws outside training (default 0).
 */
export function randomRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'random',
    create: (place, options) => {
      const { experts } = place;
      const schema = z.strictObject({
        topK: topKOption(place),
        scope: z.enum(scopes).default('token'),
        seed: z.int().default(0),
      });
      const { topK, scope, seed } = parseConfig(schema, options, 'options');
      return composeRouter({
        name: 'random',
        experts,
        topK,
        trusted: true,
        scorer: constantScorer(experts),
        score: 'softmax',
        choose: (input) => {
          const { tokens, mask, rng } = input;
          const draws = new Map<number, readonly number[]>();
          const draw = (place: number): readonly number[] => {
            const known = draws.get(place);
            if (known !== undefined) return known;
            const drawn =
              rng === undefined
                ? fixedExperts([seed, input.options.layer ?? 0, place], { experts, topK })
                : drawnExperts(rng, { experts, topK });
            draws.set(place, drawn);
            return drawn;
          };
          const placeOf = placesOf(input, scope);
          return chooseEach({
            tokens,
            expertsOf: (t) => draw(placeOf(t)),
            ...(mask === undefined ? {} : { mask }),
          });
        },
        weigh: weighScores({ renormalise: true }),
      });
    },
  });
}

function placesOf({ tokens, options }: ChooseInput, scope: (typeof scopes)[number]): (t: number) => number {
  if (scope === 'token') return (t) => t;
  const each = assertDivides(tokens, options.sequences ?? 1, 'tokens of the batch by sequences');
  return (t) => Math.floor(t / each);
}

interface Sizes {
  readonly experts: number;
  readonly topK: number;
}

function fixedExperts(place: readonly number[], { experts, topK }: Sizes): number[] {
  return distinctExperts(
    Array.from({ length: topK }, (_, k) => mixBits(...place, k)),
    experts,
  );
}

/** The first of a shuffle: every set equally likely. */
function drawnExperts(rng: Rng, { experts, topK }: Sizes): number[] {
  const order = Array.from({ length: experts }, (_, e) => e);
  for (let k = 0; k < topK; k += 1) {
    const other = k + rng.integer(experts - k);
    order.splice(k, 0, ...order.splice(other, 1));
  }
  return order.slice(0, topK);
}
