/**
 * @file Switch: one expert for a token, scaled by its probability.
 *
 * ```
 * p = softmax(x Wᵀ)    e = argmax p    w = p_e, or 1 with the gradient of p_e (straight-through)
 * ```
 * Switch Transformers (2101.03961), with its input jitter.
 */
import { z } from '@moebius/core';

import { chooseTopK } from './choices.ts';
import { defineGateFamily } from './gate-family.ts';
import { inputJitter } from './noises.ts';
import type { RouterFactory } from '../router-factory.ts';
import { linearScorer } from './scorers.ts';
import { weighScores, weighStraightThrough } from './weighs.ts';

/** `switch`: `{ jitter, weight }`. */
export function switchRouter(): RouterFactory {
  return defineGateFamily({
    name: 'switch',
    options: () =>
      z.strictObject({
        jitter: z.number().min(0).max(0.99).default(0.01),
        weight: z.enum(['probability', 'straight-through']).default('probability'),
      }),
    stages: ({ experts }, { jitter, weight }) => ({
      topK: 1,
      scorer: linearScorer({ columns: experts }),
      ...(jitter === 0 ? {} : { noise: inputJitter(jitter) }),
      score: 'softmax',
      choose: chooseTopK({ topK: 1 }),
      weigh: weight === 'probability' ? weighScores() : weighStraightThrough(),
    }),
  });
}
