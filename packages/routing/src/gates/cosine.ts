/**
 * @file Cosine router: directions decide, lengths do not, so that a few experts with long vectors cannot win everything.
 *
 * X-MoE (2204.09179), Tutel's cosine gate. See `cosine-scorer.ts` for the formula.
 */
import { z } from '@moebius/core';

import { chooseTopK } from './choices.ts';
import { cosineScorer } from './cosine-scorer.ts';
import { defineGateFamily, topKOption, weighOptions } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { weighScores } from './weighs.ts';

/** `cosine`: `{ topK, dimension, temperature, maxScale, score, renormalise, scale }`. */
export function cosineRouter(): RouterFactory {
  return defineGateFamily({
    name: 'cosine',
    options: (place) =>
      z
        .strictObject({
          topK: topKOption(place),
          dimension: z.int().min(1).prefault(Math.min(256, place.modelWidth)),
          temperature: z.number().min(1e-3).max(100).default(0.5),
          maxScale: z.number().min(1).max(1e6).default(100),
          score: z.enum(['softmax', 'sigmoid', 'sqrt-softplus']).default('softmax'),
          ...weighOptions,
        })
        .superRefine(({ temperature, maxScale }, context) => {
          if (1 / temperature > maxScale)
            context.addIssue({
              code: 'custom',
              path: ['temperature'],
              message: `must be at least 1 / maxScale ${maxScale}`,
            });
        }),
    stages: ({ experts }, { topK, score, renormalise, scale, ...rest }) => ({
      topK,
      scorer: cosineScorer({ columns: experts, ...rest }),
      score,
      choose: chooseTopK({ topK }),
      weigh: weighScores({ renormalise, scale }),
    }),
  });
}
