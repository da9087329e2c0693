/**
 * @file How many experts a token turns on, softly: the mean over tokens of the sum of its scores. DynMoE (2405.14297) adds its gate count to the loss so
 * that thresholds do not let everybody in; with sigmoid scores this is the differentiable form of that count.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { mul, onesLike, reshape, sum } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { meanLoss } from './mean-loss.ts';
import type { BalanceLoss } from '../balance-loss.ts';

/**
 * Mean sum of a token's scores.
 *
 * @returns a loss named `expert-count`; E/2 for sigmoids of 0, always 1 for a softmax
 */
export function expertCountLoss(): BalanceLoss {
  return meanLoss({
    name: 'expert-count',
    rows: ({ scores }) => sum<Tensor1D>(scores, 1),
    gradient: ({ scores }, weight_T) => ({
      dscores: mul<Tensor2D>(onesLike(scores), reshape(weight_T, [weight_T.size, 1])),
    }),
  });
}
