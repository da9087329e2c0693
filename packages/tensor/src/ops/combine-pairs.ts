/**
 * @file Sums the pairs of each token: the portable body of combine, and of the gradient of gather.
 *
 * With the same number of pairs on every token it is one gather and one sum. Otherwise token `t`'s `j`-th pair is
 * added in round `j`, where a token without one reads row 0 with weight 0: `max pairs` gathers, no scatter.
 *
 * Legend: `T` tokens · `N` pairs · `D` width · `K` pairs per token.
 */
import { add, gather, mul, sum, tensor1d, tensor2d } from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { pairsInRound, uniformPairs } from './combine-pairs.kernel.ts';
import { as2D, as3D, zeros2D } from './reshape.ts';
import type { RowPlan } from './row-plan.ts';

/**
 * `out[t] = Σ weights[n] · y[n]` over token `t`'s pairs `n`.
 *
 * @param y_ND - float32 `[N, D]`, borrowed
 * @param weights_N - float32 `[N]`, borrowed; all ones when absent
 * @returns float32 `[T, D]`; free it in the enclosing scope
 */
export function sumPairs(y_ND: Tensor2D, weights_N: Tensor1D | undefined, plan: RowPlan): Tensor2D {
  const { tokens } = plan;
  const [pairs, width] = y_ND.shape;
  if (pairs === 0 || tokens === 0) return zeros2D(tokens, width);
  const each = uniformPairs(plan.tokenOffsets);
  if (each === 0) return sumRounds(y_ND, weights_N, plan);
  const slot_N = tensor1d(plan.slot.slice(), 'int32');
  const rows_TKD = as3D(gather(y_ND, slot_N), tokens, each, width);
  if (weights_N === undefined) return sum(rows_TKD, 1);
  const weights_TK1 = as3D(gather(weights_N, slot_N), tokens, each, 1);
  return sum(mul(rows_TKD, weights_TK1), 1);
}

function sumRounds(y_ND: Tensor2D, weights_N: Tensor1D | undefined, plan: RowPlan): Tensor2D {
  const { tokens } = plan;
  let total_TD = zeros2D(tokens, y_ND.shape[1]);
  for (let round = 0; ; round += 1) {
    const { index, present, count } = pairsInRound(plan.tokenOffsets, plan.slot, round);
    if (count === 0) return total_TD;
    const index_T = tensor1d(index, 'int32');
    const present_T1 = tensor2d(present, [tokens, 1]);
    const factor_T1 =
      weights_N === undefined ? present_T1 : mul(present_T1, as2D(gather(weights_N, index_T), tokens, 1));
    total_TD = add(total_TD, mul(gather(y_ND, index_T), factor_T1));
  }
}
