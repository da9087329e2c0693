/**
 * @file Logits of mean 0 and a fixed spread, so that a router stays as decided as it was told to be.
 *
 * ```
 * z = x Wᵀ    z' = λ·(z - mean z) / std z over the experts    p = softmax(z')    I = top-k
 * ```
 * Skywork-MoE (2406.06563), as the survey describes it; no code of it was read. Scaling a row changes nothing.
 */
import { z } from '@moebius/core';
import { add, div, linear, mean, mul, square, sqrt, sub } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { chooseTopK } from './choices.ts';
import { defineGateFamily, topKOption, weighOptions } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { scorerOf } from './scorers.ts';
import { weighScores } from './weighs.ts';

/** `normalised-logits`: `{ topK, spread, renormalise, scale }`. */
export function normalisedLogitsRouter(): RouterFactory {
  return defineGateFamily({
    name: 'normalised-logits',
    options: (place) =>
      z.strictObject({
        topK: topKOption(place),
        spread: z.number().min(1e-6).max(100).default(1),
        ...weighOptions,
      }),
    stages: ({ experts }, { topK, spread, ...weighing }) => ({
      topK,
      scorer: scorerOf({
        name: 'normalisedLogits',
        parameterShapes: (modelWidth) => ({ weight: [experts, modelWidth] }),
        logits: (x, { weight }) => {
          const z_TE = linear(x, weight as Tensor2D);
          const centred_TE = sub<Tensor2D>(z_TE, mean(z_TE, 1, true));
          const variance_T1 = mean<Tensor2D>(square(centred_TE), 1, true);
          return mul<Tensor2D>(div(centred_TE, sqrt(add(variance_T1, 1e-12))), spread);
        },
      }),
      score: 'softmax',
      choose: chooseTopK({ topK }),
      weigh: weighScores(weighing),
    }),
  });
}
