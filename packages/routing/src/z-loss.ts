/**
 * @file Router z-loss (ST-MoE, eq. 5): the mean over tokens of the squared log-sum-exp of the router's logits. It keeps logits small, and
 * with them the rounding of the gate.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { logSumExp, mul, reshape, runOp, softmax, square, sum, tensor1d } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { countTokens } from './balance-loss.kernel.ts';
import { defineBalanceLoss } from './balance-loss.ts';
import type { BalanceLoss } from './balance-loss.ts';

/**
 * The z-loss: counts = [tokens], sums = [Σ logsumexp²]; the mean is over the tokens of all layers.
 *
 * @returns a loss named `z-loss`
 */
export function zLoss(): BalanceLoss {
  return defineBalanceLoss({
    name: 'z-loss',
    statistics: ({ logits, mask, plan }) => ({
      counts: Float64Array.of(countTokens(plan.tokens, mask)),
      sums: runOp('zLoss.statistics', () => {
        const square_T = square(logSumExp<Tensor1D>(logits, 1));
        return reshape(sum(mask === undefined ? square_T : mul(square_T, maskOf(mask))), [1]) as Tensor1D;
      }),
    }),
    value: (layers) => {
      const tokens = layers.reduce((total, layer) => total + (layer.counts[0] ?? 0), 0);
      const squares = layers.reduce((total, layer) => total + (layer.sums[0] ?? 0), 0);
      return tokens === 0 ? 0 : squares / tokens;
    },
    gradient: ({ config, logits, scores, mask }, { counts, scale }) =>
      runOp('zLoss.gradient', () => {
        const tokens = counts.reduce((total, vector) => total + (vector[0] ?? 0), 0);
        const factor = tokens === 0 ? 0 : (2 * scale) / tokens;
        const slope_T = mul<Tensor1D>(logSumExp<Tensor1D>(logits, 1), factor);
        const masked_T = mask === undefined ? slope_T : mul<Tensor1D>(slope_T, maskOf(mask));
        const probability_TE = config.score === 'softmax' ? scores : softmax(logits);
        return { dlogits: mul<Tensor2D>(probability_TE, reshape(masked_T, [logits.shape[0], 1])) };
      }),
  });
}

function maskOf(mask: Uint8Array): Tensor1D {
  return tensor1d(Float32Array.from(mask, (entry) => (entry === 0 ? 0 : 1)));
}
