/**
 * @file AdaMoE: n null experts beside E real ones; a token that chooses a null expert needs fewer real ones.
 *
 * ```
 * p = softmax(x Wᵀ) over E + n    I = top-k of p    w_e = p_e / Σ p over the real experts of I
 * ```
 * AdaMoE (2406.13233). A null expert has no pair, so it costs nothing; a token of null experts only has a zero row. `scores` are p of the real
 * experts: rows sum to 1 less the share of the null ones, of which k·T - pairs were chosen, so a loss can count those too.
 */
import { z } from '@moebius/core';

import { topKRows } from './choose.kernel.ts';
import { defineGateFamily } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { linearScorer } from './scorers.ts';
import { weighScores } from './weighs.ts';

/** `null-experts`: `{ nulls, choose, renormalise, scale }`; twice the layer's `topK` of twice its experts by default, as many real ones on average. */
export function nullExpertsRouter(): RouterFactory {
  return defineGateFamily({
    name: 'null-experts',
    options: ({ experts, topK }) =>
      z
        .strictObject({
          nulls: z.int().min(1).prefault(experts),
          choose: z
            .int()
            .min(1)
            .prefault(2 * topK),
          renormalise: z.boolean().default(true),
          scale: z.number().default(1),
        })
        .superRefine(({ nulls, choose }, context) => {
          if (choose <= experts + nulls) return;
          const message = `must be at most ${experts + nulls}, experts and nulls together`;
          context.addIssue({ code: 'custom', path: ['choose'], message });
        }),
    stages: ({ experts }, { nulls, choose, ...weighing }) => ({
      topK: (choose * experts) / (experts + nulls),
      nulls,
      scorer: linearScorer({ columns: experts + nulls }),
      score: 'softmax',
      choose: ({ logits, ...rows }) => topKRows(logits, choose, rows),
      weigh: weighScores(weighing),
    }),
  });
}
