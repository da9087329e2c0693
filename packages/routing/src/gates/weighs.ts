/**
 * @file Weights as stages of `composeRouter`.
 *
 * Letters: `T` tokens, `E` experts, `N` routed pairs.
 */
import { gatherScoresBackward, ones } from '@moebius/tensor';
import type { GatherScoresSaved, Tensor1D } from '@moebius/tensor';

import { weighBackward, weighForward } from '../weigh-chosen.ts';
import type { WeighSaved } from '../weigh-chosen.ts';
import type { Weigh } from './stages.ts';

/** Settings of {@link weighScores}. */
export interface WeighScoresOptions {
  /** A softmax over the logits of the chosen experts takes the place of the scores. Default false. */
  readonly softmaxChosen?: boolean;
  /** Divide by the sum of the chosen scores (of `among`, where the choice gives it). Default false. */
  readonly renormalise?: boolean;
  /** Multiplies last. Default 1. */
  readonly scale?: number;
}

/** Kept above 0, so that a token without a pair divides by no zero. */
const EPSILON = 1e-20;

/**
 * The scores of the chosen experts as they are, renormalised, or as a softmax over the chosen.
 *
 * @param options - the rule
 */
export function weighScores(options: WeighScoresOptions = {}): Weigh {
  const { softmaxChosen = false, renormalise = false, scale = 1 } = options;
  const settings = { softmaxChosen, renormalise, scale, epsilon: EPSILON };
  return {
    forward: (input) => weighForward(input, settings),
    backward: (saved, dweights) => weighBackward(saved as WeighSaved, dweights),
  };
}

/** Weight 1 for every pair; no gradient reaches the scores. */
export function weighOnes(): Weigh {
  return {
    forward: ({ plan }) => ({ value: ones([plan.token.length]) as Tensor1D, saved: null }),
    backward: () => ({}),
  };
}

/**
 * Forward 1, backward as if it were the score: an expert's output is not scaled, and its router still learns.
 */
export function weighStraightThrough(): Weigh {
  return {
    forward: ({ plan }) => ({ value: ones([plan.token.length]) as Tensor1D, saved: { plan } }),
    backward: (saved, dweights) => gatherScoresBackward(saved as GatherScoresSaved, dweights),
  };
}
