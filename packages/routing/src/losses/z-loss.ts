/**
 * @file Router z-loss (ST-MoE, eq. 5): the mean over tokens of the squared log-sum-exp of the router's logits. It keeps logits small, and
 * with them the rounding of the gate.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { logSumExp, mul, reshape, softmax, square } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { meanLoss } from './mean-loss.ts';
import type { BalanceLoss } from '../balance-loss.ts';

/**
 * The z-loss: counts = [tokens], sums = [Σ logsumexp²]; the mean is over the tokens of all layers.
 *
 * @returns a loss named `z-loss`; (ln E)² for logits of 0
 */
export function zLoss(): BalanceLoss {
  return meanLoss({
    name: 'z-loss',
    rows: ({ logits }) => square(logSumExp<Tensor1D>(logits, 1)),
    gradient: ({ config, logits, scores }, weight_T) => {
      const slope_T = mul<Tensor1D>(mul(logSumExp<Tensor1D>(logits, 1), weight_T), 2);
      const probability_TE = config.score === 'softmax' ? scores : softmax(logits);
      return { dlogits: mul<Tensor2D>(probability_TE, reshape(slope_T, [logits.shape[0], 1])) };
    },
  });
}
