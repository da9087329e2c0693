/**
 * @file Two experts, the second by a policy.
 *
 * ```
 * g = the two largest of softmax(x Wᵀ), divided by their sum
 * second: always · never · where g2 > threshold · with probability min(1, g2 / threshold)
 * ```
 * GShard (2006.16668) (random, in proportion to its weight); the four policies and threshold 0.2 are those of published code. The
 * first keeps its share when the second is dropped. Evaluation draws nothing: it has a policy of its own.
 */
import { z } from '@moebius/core';

import { topTwoRows } from './choose.kernel.ts';
import { defineGateFamily } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { linearScorer } from './scorers.ts';
import { weighScores } from './weighs.ts';

type Policy = 'always' | 'never' | 'threshold' | 'random';

/** `top-2`: `{ second, evaluate, threshold, scale }`. */
export function topTwoRouter(): RouterFactory {
  return defineGateFamily({
    name: 'top-2',
    options: ({ experts }) =>
      z
        .strictObject({
          second: z.enum(['always', 'never', 'threshold', 'random']).default('random'),
          evaluate: z.enum(['always', 'never', 'threshold']).default('threshold'),
          threshold: z.number().min(1e-6).max(1).default(0.2),
          scale: z.number().default(1),
        })
        .superRefine((_, context) => {
          if (experts < 2)
            context.addIssue({
              code: 'custom',
              message: `needs at least 2 experts in the layer, not ${experts}`,
            });
        }),
    stages: ({ experts }, { second, evaluate, threshold, scale }) => ({
      topK: 2,
      scorer: linearScorer({ columns: experts }),
      score: 'softmax',
      choose: ({ scores, rng, ...rows }) => {
        const policy = rng === undefined ? evaluate : second;
        return topTwoRows(
          scores(),
          keeper(policy, threshold, () => rng?.uniform() ?? 0),
          rows,
        );
      },
      weigh: weighScores({ renormalise: true, scale }),
    }),
  });
}

function keeper(policy: Policy, threshold: number, draw: () => number): (share: number) => boolean {
  if (policy === 'always') return () => true;
  if (policy === 'never') return () => false;
  return policy === 'threshold' ? (share) => share > threshold : (share) => draw() * threshold < share;
}
