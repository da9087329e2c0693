/**
 * @file Gather rows by plan: `x_ND[n] = x_TD[token[n]]`. Its gradient sums each token's pairs: again gathers.
 *
 * Legend: `T` tokens · `N` routed pairs · `D` width.
 */
import { gather } from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import { sumPairs } from './combine-pairs.ts';
import { emptyWeights } from './combine-rows.ts';
import { toIndexTensor } from './index-tensor.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { zeros2D } from './reshape.ts';
import { assertRowPlan, countPairs } from './row-plan.ts';
import type { RowPlan } from './row-plan.ts';

/** What {@link gatherRowsBackward} needs. No tensor. */
export interface GatherRowsSaved {
  /** The plan. */
  readonly plan: RowPlan;
}

/** Gradient of {@link gatherRowsForward}. */
export interface GatherRowsGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
}

/**
 * The row of each routed pair, grouped by expert.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param plan - borrowed; its arrays must not be written while `saved` lives
 * @returns `x` float32 `[N, D]`; the caller owns it
 * @throws `shape`
 */
export function gatherRowsForward(x_TD: Tensor2D, plan: RowPlan): Forward<Tensor2D, GatherRowsSaved> {
  assertRowPlan(plan);
  assertShape(x_TD, 'T D', { T: plan.tokens }, 'gatherRows x');
  const value = runOp('gatherRows', () => {
    if (countPairs(plan) === 0) return zeros2D(0, x_TD.shape[1]);
    const token_N = toIndexTensor(plan.token);
    const kernel = nativeKernel('MoebiusGatherRows');
    return kernel ? (kernel([x_TD, token_N])[0] as Tensor2D) : gather(x_TD, token_N);
  });
  return { value, saved: { plan } };
}

/**
 * Gradient of {@link gatherRowsForward}.
 *
 * @param saved - borrowed
 * @param dy_ND - float32 `[N, D]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function gatherRowsBackward(saved: GatherRowsSaved, dy_ND: Tensor2D): GatherRowsGradients {
  const { plan } = saved;
  assertShape(dy_ND, 'N D', { N: countPairs(plan) }, 'gatherRows dy');
  const dx = runOp('gatherRows.backward', () => {
    const kernel = nativeKernel('MoebiusCombineRows');
    if (kernel && countPairs(plan) > 0) {
      const lists = [toIndexTensor(plan.tokenOffsets), toIndexTensor(plan.slot)];
      return kernel([dy_ND, emptyWeights(), ...lists])[0] as Tensor2D;
    }
    return sumPairs(dy_ND, undefined, plan);
  });
  return { dx };
}

/**
 * Gathers rows by plan, differentiable on the tape.
 *
 * @param x_TD - float32 `[T, D]`
 * @returns float32 `[N, D]`, owned by the caller
 */
export function gatherRows(x_TD: Tensor2D, plan: RowPlan): Tensor2D {
  return runOnTape([x_TD], {
    forward: ([x]) => gatherRowsForward(x as Tensor2D, plan),
    backward: (saved, dy) => [gatherRowsBackward(saved as GatherRowsSaved, dy as Tensor2D).dx],
  }) as Tensor2D;
}
