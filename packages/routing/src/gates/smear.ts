/**
 * @file SMEAR (Muqeeth et al. 2023, 2306.03745): one gate for each sequence, from the mean of its rows, says how the parameters of the
 * experts are averaged into the one expert that runs the sequence.
 *
 * `mix = softmax(W norm(mean_t x_t))`, `y_t = f(x_t; Σ_e mix_e θ_e)`. In training experts may be left out at random, and the others share.
 * Not causal: the mean is over the whole sequence.
 *
 * Letters: `E` experts, `G` sequences.
 */
import { parseConfig, z } from '@moebius/core';
import type { Rng } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { mergeRouter } from './merge-router.ts';
import { sequenceGroups } from './token-groups.ts';

const schema = z.strictObject({
  normalise: z.boolean().default(true),
  dropout: z.number().min(0).lt(1).default(0),
});

/**
 * SMEAR by name, `smear`. Options: `normalise` the mean row as a layer norm does (default true), `dropout` the probability that an expert is
 * left out of a sequence's mean in training (default 0; the paper uses 0.1). Trained: `weight` `[E, D]`. In generation with a cache a
 * sequence is the tokens at hand.
 */
export function smearRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'smear',
    create: ({ experts }, options) => {
      const { normalise, dropout } = parseConfig(schema, options, 'options');
      return mergeRouter({
        name: 'smear',
        experts,
        topK: experts,
        causal: false,
        normalise,
        groups: sequenceGroups,
        keep: ({ length }, { rng }) =>
          rng === undefined || dropout === 0
            ? null
            : keepSome(rng.fork('dropout'), length, { experts, dropout }),
      });
    },
  });
}

/** Uint8Array `[G, E]` with at least one expert a row. */
function keepSome(
  rng: Rng,
  size: number,
  { experts, dropout }: { readonly experts: number; readonly dropout: number },
): Uint8Array {
  const kept = Uint8Array.from({ length: size }, () => (rng.uniform() < dropout ? 0 : 1));
  for (let from = 0; from < size; from += experts)
    if (!kept.subarray(from, from + experts).includes(1)) kept[from + rng.integer(experts)] = 1;
  return kept;
}
