/**
 * @file S-BASE (Clark et al. 2022, 2202.01169): in training the experts of a token are the best of a transport plan whose rows and columns
 * are equalised by Sinkhorn's iteration; outside training those of the logits.
 *
 * `P = sinkhorn(exp(z / τ))`, `I_t = top-k of P_t`, weights are the scores of the logits: `σ(z)` for one expert, softmax for several. Loads are
 * near to equal, not equal: use `base` for that.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k.
 */
import { parseConfig, z } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { topKRows } from './choose.kernel.ts';
import { composeRouter } from './compose-router.ts';
import { topKOption } from './gate-family.ts';
import { atTheirTokens, routedRows } from './routed-rows.kernel.ts';
import { linearScorer } from './scorers.ts';
import { sinkhorn } from './sinkhorn.kernel.ts';
import type { Choose } from './stages.ts';
import { weighScores } from './weighs.ts';

/** Settings of {@link chooseSinkhorn}. */
export interface ChooseSinkhornOptions {
  /** `K`. */
  readonly topK: number;
  /** Default 1. */
  readonly temperature?: number;
  /** Default 1e-4. */
  readonly tolerance?: number;
  /** Default 100. */
  readonly iterations?: number;
}

/**
 * The `topK` best experts of every token: of a transport plan with equal loads in training, of the logits outside it.
 *
 * @param options - how many, and when the iteration ends
 */
export function chooseSinkhorn(options: ChooseSinkhornOptions): Choose {
  const { topK, temperature = 1, tolerance = 1e-4, iterations = 100 } = options;
  return (input) => {
    if (input.options.phase !== 'train') return topKRows(input.logits, topK, input);
    const { routed, rows } = routedRows(input);
    const plan = sinkhorn(rows, { experts: input.experts, temperature, tolerance, iterations });
    if (routed.length === 0) return topKRows(input.logits, topK, input);
    return topKRows(atTheirTokens(plan, routed, input.tokens), topK, input);
  };
}

/**
 * S-BASE by name, `sinkhorn`. Options: `topK` (default: the model's), `temperature` (default 1), `tolerance` of the loads of the plan (default
 * 1e-4), `iterations` at most (default 100). Trained: `weight` `[E, D]`.
 */
export function sinkhornRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'sinkhorn',
    create: (place, options) => {
      const { experts } = place;
      const schema = z.strictObject({
        topK: topKOption(place),
        temperature: z.number().gt(0).default(1),
        tolerance: z.number().gt(0).default(1e-4),
        iterations: z.int().min(1).default(100),
      });
      const { topK, ...iteration } = parseConfig(schema, options, 'options');
      return composeRouter({
        name: 'sinkhorn',
        experts,
        topK,
        trusted: true,
        scorer: linearScorer({ columns: experts }),
        score: topK === 1 ? 'sigmoid' : 'softmax',
        choose: chooseSinkhorn({ topK, ...iteration }),
        weigh: weighScores(),
      });
    },
  });
}
