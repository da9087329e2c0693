/**
 * @file ReMoE's loss (2412.14711, §3.3): an L1 penalty on ReLU scores that is shaped like the load-balance loss, E/k·Σ f·mean score. It makes scores
 * sparse and balanced at once; its coefficient λ is moved until a token has k experts (the `relu` gate does that in `advance`).
 */
import { mul } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { countPairs } from './count-pairs.kernel.ts';
import type { PoolingOptions } from './pooling.ts';
import { productLoss } from './product-loss.ts';
import type { BalanceLoss, GateObservation } from '../balance-loss.ts';

/**
 * ReMoE's L1 penalty.
 *
 * @param options - over which tokens
 * @returns a loss named `sparsity`: `λ·E/k·Σ_e f_e·mean score_e`, λ the router's buffer `lambda` (1 without one). At balance with k
 * experts a token it is λ times the mean sum of a token's scores.
 * @throws `configuration` when `per-sequence` has no sequence length
 */
export function sparsityLoss(options: PoolingOptions = {}): BalanceLoss {
  return productLoss({
    ...options,
    name: 'sparsity',
    subject: 'sparsityLoss',
    count: countPairs,
    slopes: ({ load, tokens, experts, topK }) => load.map((count) => (experts * count) / (topK * tokens)),
    amounts: (observation) => mul<Tensor2D>(observation.scores, coefficientOf(observation)),
    throughAmounts: (observation, damounts_TE) => ({
      dscores: mul<Tensor2D>(damounts_TE, coefficientOf(observation)),
    }),
  });
}

function coefficientOf({ buffers }: GateObservation): number {
  return buffers?.['lambda']?.[0] ?? 1;
}
