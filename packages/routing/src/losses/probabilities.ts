/**
 * @file What balance losses take a token's probabilities of its experts to be, with the way back to scores or logits.
 *
 * Softmax scores as they are; sigmoids, square roots and ReLUs divided by their sum (a row of zeros stays zeros); softmax of the logits
 * for `identity`.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { div, greater, mul, softmax, sub, sum, tensor2d, where } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { GateObservation, LossGradient } from '../balance-loss.ts';

/** float32 `[T, E]`, rows sum to 1 (or are 0). May be the scores themselves: call it in a scope. */
export function probabilities(observation: GateObservation): Tensor2D {
  const { config, scores, logits } = observation;
  if (config.score === 'softmax') return scores;
  if (config.score === 'identity') return softmax(logits);
  return div<Tensor2D>(scores, rowSums(scores));
}

/** Gradient of the probabilities `[T, E]` as one of scores or logits. Call it in a scope. */
export function throughProbabilities(observation: GateObservation, dprobability_TE: Tensor2D): LossGradient {
  const { config, scores } = observation;
  if (config.score === 'softmax') return { dscores: dprobability_TE };
  const probability_TE = probabilities(observation);
  const along_T1 = sum(mul(dprobability_TE, probability_TE), 1, true);
  const centred_TE = sub<Tensor2D>(dprobability_TE, along_T1);
  if (config.score === 'identity') return { dlogits: mul<Tensor2D>(probability_TE, centred_TE) };
  return { dscores: div<Tensor2D>(centred_TE, rowSums(scores)) };
}

/** float32 `[T, 1]`; 1 where the sum is 0, as it is for a token that ReLU leaves without an expert. */
export function rowSums(scores_TE: Tensor2D): Tensor2D {
  const sum_T1 = sum<Tensor2D>(scores_TE, 1, true);
  return where<Tensor2D>(greater(sum_T1, 0), sum_T1, 1);
}

/** Uint8Array `[T]` → float32 `[T, 1]`. */
export function maskColumn(mask: Uint8Array): Tensor2D {
  const entries = Float32Array.from(mask, (entry) => (entry === 0 ? 0 : 1));
  return tensor2d(entries, [mask.length, 1]);
}

/** The rows of a `[T, E]` tensor that count; the tensor itself without a mask. Call it in a scope. */
export function masked(rows_TE: Tensor2D, mask: Uint8Array | undefined): Tensor2D {
  return mask === undefined ? rows_TE : mul<Tensor2D>(rows_TE, maskColumn(mask));
}
