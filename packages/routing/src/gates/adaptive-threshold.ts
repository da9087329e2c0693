/**
 * @file DynMoE: every expert has a threshold of its own; a token gets all experts whose score is above it.
 *
 * ```
 * s = σ(τ cos(x, W))    a_e = sign(s_e - σ(G_e)) > 0    w_e = a_e / Σ a        ∂a/∂s = 1, ∂a/∂σ(G) = -1 where a = 1
 * ```
 * DynMoE (2405.14297). The gradient of the sign is straight-through; the number of experts is a constant to it. While training a token may
 * have no expert; otherwise it then gets the one with the largest score. The paper's thresholds start at 0: σ(0) = ½.
 *
 * Letters: `T` tokens, `E` experts, `N` routed pairs.
 */
import { z } from '@moebius/core';
import { concat, gatherScoresBackward, mul, neg, reshape, tensor1d, tile } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import type { DispatchPlan } from '../dispatch-plan.ts';
import { aboveRows } from './choose.kernel.ts';
import { cosineLogits, cosineScorer } from './cosine-scorer.ts';
import { defineGateFamily } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { scorerOf } from './scorers.ts';
import { shareWeights } from './share-weights.kernel.ts';
import type { Scorer, Weigh } from './stages.ts';

/** `adaptive-threshold`: `{ temperature, maxScale, topK }`; `topK` is only what losses that divide by it are told. */
export function adaptiveThresholdRouter(): RouterFactory {
  return defineGateFamily({
    name: 'adaptive-threshold',
    options: (place) =>
      z.strictObject({
        topK: z.number().min(1e-6).max(place.experts).prefault(place.topK),
        temperature: z.number().min(1e-3).max(100).default(0.5),
        maxScale: z.number().min(1).max(1e6).default(100),
      }),
    stages: ({ experts }, { topK, temperature, maxScale }) => ({
      topK,
      nulls: experts,
      scorer: thresholdScorer({ experts, temperature, maxScale }),
      score: 'sigmoid',
      choose: ({ logits, options, ...rows }) => {
        const atLeastOne = options.phase !== 'train';
        return aboveRows(logits, { ...rows, columns: experts, bound: 'columns', atLeastOne });
      },
      weigh: weighSigns(),
    }),
  });
}

interface ThresholdScorerOptions {
  readonly experts: number;
  readonly temperature: number;
  readonly maxScale: number;
}

/** Columns 0 … E: τ cos(x, W); columns E … 2E: the thresholds G, so that one read has both. */
function thresholdScorer({ experts, temperature, maxScale }: ThresholdScorerOptions): Scorer {
  const cosines = cosineScorer({ columns: experts, dimension: 0, temperature, maxScale });
  return scorerOf({
    name: 'thresholdScorer',
    parameterShapes: (modelWidth) => ({ ...cosines.parameterShapes(modelWidth), threshold: [experts] }),
    ...(cosines.initialise === undefined ? {} : { initialise: cosines.initialise }),
    logits: (x, { threshold, ...own }) => {
      const thresholds = tile(reshape(threshold as Tensor1D, [1, experts]), [x.shape[0], 1]);
      return concat([cosineLogits(x, own, maxScale), thresholds as Tensor2D], 1);
    },
  });
}

/** 1 / (number of experts of the token) for every pair; straight-through to score and threshold. */
function weighSigns(): Weigh {
  return {
    forward: ({ plan }) => ({ value: tensor1d(shareWeights(plan), 'float32'), saved: { plan } }),
    backward: (saved, dweights) => {
      const { plan } = saved as { readonly plan: DispatchPlan };
      const shared_N = mul<Tensor1D>(dweights, tensor1d(shareWeights(plan), 'float32'));
      const dsigns_TE = gatherScoresBackward({ plan }, shared_N).dscores;
      return { dscores: concat([dsigns_TE, neg<Tensor2D>(dsigns_TE)], 1) };
    },
  };
}
