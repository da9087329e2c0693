/**
 * @file Attention router: experts look at each other before one is chosen, so that their correlation counts.
 *
 * ```
 * q, k, v = x Wqᵀ, x Wkᵀ, x Wvᵀ  [T, E]    z = softmax(q kᵀ) v  over the experts of each token    I = top-k    w = softmax over the chosen
 * ```
 * Yuan 2.0-M32 (2405.17976), as the survey describes it; no code of it was read. T·E² numbers are held while it runs.
 *
 * Letters: `T` tokens, `D` model width, `E` experts.
 */
import { z } from '@moebius/core';
import { linear, mul, reshape, softmax, sum } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { chooseTopK } from './choices.ts';
import { defineGateFamily, topKOption } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { scorerOf } from './scorers.ts';
import type { Scorer } from './stages.ts';
import { weighScores } from './weighs.ts';

/** `attention`: `{ topK, scale }`. */
export function attentionRouter(): RouterFactory {
  return defineGateFamily({
    name: 'attention',
    options: (place) => z.strictObject({ topK: topKOption(place), scale: z.number().default(1) }),
    stages: ({ experts }, { topK, scale }) => ({
      topK,
      scorer: attentionScorer(experts),
      score: 'softmax',
      choose: chooseTopK({ topK }),
      weigh: weighScores({ softmaxChosen: true, scale }),
    }),
  });
}

function attentionScorer(experts: number): Scorer {
  return scorerOf({
    name: 'attentionScorer',
    parameterShapes: (modelWidth) => ({
      query: [experts, modelWidth],
      key: [experts, modelWidth],
      value: [experts, modelWidth],
    }),
    logits: (x, { query, key, value }) => {
      const tokens = x.shape[0];
      const q_TE1 = reshape(linear(x, query as Tensor2D), [tokens, experts, 1]);
      const [k_T1E, v_T1E] = [key, value].map((weight) =>
        reshape(linear(x, weight as Tensor2D), [tokens, 1, experts]),
      );
      return sum<Tensor2D>(mul(softmax(mul(q_TE1, k_T1E ?? 0)), v_T1E ?? 0), 2);
    },
  });
}
