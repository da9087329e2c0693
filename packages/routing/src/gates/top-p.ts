/**
 * @file Top-p: as many experts as it takes to hold a share of the probability, so that unsure tokens get more.
 *
 * ```
 * p = softmax(x Wᵀ)    I = the fewest experts, best first, with Σ p ≥ p₀    w = p[I], or divided by their sum
 * ```
 * Huang et al. 2024 (2403.07652).
 */
import { z } from '@moebius/core';

import { topPRows } from './choose.kernel.ts';
import { defineGateFamily } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { linearScorer } from './scorers.ts';
import { weighScores } from './weighs.ts';

/** `top-p`: `{ p, least, most, topK, renormalise, scale }`; `topK` is only what losses that divide by it are told. */
export function topPRouter(): RouterFactory {
  return defineGateFamily({
    name: 'top-p',
    options: ({ experts, topK }) =>
      z
        .strictObject({
          p: z.number().min(0).max(1).default(0.4),
          least: z.int().min(1).default(1),
          most: z.int().min(1).max(experts).prefault(experts),
          topK: z.number().min(1e-6).max(experts).prefault(topK),
          renormalise: z.boolean().default(false),
          scale: z.number().default(1),
        })
        .superRefine(({ least, most }, context) => {
          if (least > most)
            context.addIssue({ code: 'custom', path: ['least'], message: `must be at most most ${most}` });
        }),
    stages: ({ experts }, { p, least, most, topK, ...weighing }) => ({
      topK,
      scorer: linearScorer({ columns: experts }),
      score: 'softmax',
      choose: ({ scores, ...rows }) => topPRows(scores(), { ...rows, p, least, most }),
      weigh: weighScores(weighing),
    }),
  });
}
