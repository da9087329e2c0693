/**
 * @file Top-k of noisy logits, so that experts which are nearly chosen get tokens while training.
 *
 * ```
 * z = x Wᵀ + noise        learned ε·softplus(x Wnᵀ) · additive ε·amount · Gumbel g·amount;  jitter: x ⊙ U(1-amount, 1+amount)
 * w = softmax over the k best z, or their shares of the softmax over all
 * ```
 * Shazeer et al. 2017 (1701.06538) (learned); V-MoE (2106.05974) (additive, 1/E); Switch (2101.03961) (jitter). Evaluation draws nothing.
 */
import { z } from '@moebius/core';

import { chooseTopK } from './choices.ts';
import { defineGateFamily, topKOption } from './gate-family.ts';
import { additiveNoise, gumbelNoise, inputJitter, learnedNoise } from './noises.ts';
import type { RouterFactory } from '../router-factory.ts';
import { linearScorer } from './scorers.ts';
import type { Noise } from './stages.ts';
import { weighScores } from './weighs.ts';

/** `noisy-top-k`: `{ topK, noise, amount, weights, scale }`. */
export function noisyTopKRouter(): RouterFactory {
  return defineGateFamily({
    name: 'noisy-top-k',
    options: (place) =>
      z.strictObject({
        topK: topKOption(place),
        noise: z.enum(['learned', 'additive', 'jitter', 'gumbel']).default('learned'),
        amount: z.number().min(0).max(100).optional(),
        weights: z.enum(['softmax-chosen', 'scores', 'renormalised']).default('softmax-chosen'),
        scale: z.number().default(1),
      }),
    stages: ({ experts }, { topK, noise, amount, weights, scale }) => ({
      topK,
      scorer: linearScorer({ columns: experts }),
      noise: noiseOf(noise, amount, experts),
      score: 'softmax',
      choose: chooseTopK({ topK }),
      weigh: weighScores({
        softmaxChosen: weights === 'softmax-chosen',
        renormalise: weights === 'renormalised',
        scale,
      }),
    }),
  });
}

function noiseOf(
  kind: 'learned' | 'additive' | 'jitter' | 'gumbel',
  amount: number | undefined,
  experts: number,
): Noise {
  if (kind === 'learned') return learnedNoise(experts);
  if (kind === 'additive') return additiveNoise(amount ?? 1 / experts);
  return kind === 'jitter' ? inputJitter(amount ?? 0.01) : gumbelNoise(amount ?? 1);
}
