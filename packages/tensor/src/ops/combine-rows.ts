/**
 * @file Combine rows by plan: `out[t] = Σ weights[n] · y[n]` over token `t`'s routed pairs.
 *
 * Legend: `T` tokens · `N` routed pairs · `D` width.
 */
import { gather, mul, sum, tensor1d } from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { cloneTensor, runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import { sumPairs } from './combine-pairs.ts';
import { toIndexTensor } from './index-tensor.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { as2D, zeros2D } from './reshape.ts';
import { assertRowPlan, countPairs } from './row-plan.ts';
import type { RowPlan } from './row-plan.ts';

/** What {@link combineRowsBackward} needs. */
export interface CombineRowsSaved {
  /** float32 `[N, D]`. */
  readonly y: Tensor2D;
  /** float32 `[N]`. */
  readonly weights: Tensor1D;
  /** The plan. */
  readonly plan: RowPlan;
}

/** Gradients of {@link combineRowsForward}. */
export interface CombineRowsGradients {
  /** float32 `[N, D]`. */
  readonly dy: Tensor2D;
  /** float32 `[N]`. */
  readonly dweights: Tensor1D;
}

/**
 * `out[t] = Σ weights[n] · y[n]` over token `t`'s pairs. A token without pairs gets zeros.
 *
 * @param y_ND - float32 `[N, D]`, borrowed
 * @param weights_N - float32 `[N]`, borrowed
 * @param plan - borrowed; its arrays must not be written while `saved` lives
 * @returns `out` float32 `[T, D]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function combineRowsForward(
  y_ND: Tensor2D,
  weights_N: Tensor1D,
  plan: RowPlan,
): Forward<Tensor2D, CombineRowsSaved> {
  assertRowPlan(plan);
  assertShape(y_ND, 'N D', { N: countPairs(plan) }, 'combineRows y');
  assertShape(weights_N, 'N', { N: countPairs(plan) }, 'combineRows weights');
  return runOp('combineRows', () => {
    const value = combine(y_ND, weights_N, plan);
    return { value, saved: { y: cloneTensor(y_ND), weights: cloneTensor(weights_N), plan } };
  });
}

function combine(y_ND: Tensor2D, weights_N: Tensor1D, plan: RowPlan): Tensor2D {
  const kernel = nativeKernel('MoebiusCombineRows');
  if (kernel && countPairs(plan) > 0) {
    const lists = [toIndexTensor(plan.tokenOffsets), toIndexTensor(plan.slot)];
    return kernel([y_ND, weights_N, ...lists])[0] as Tensor2D;
  }
  return sumPairs(y_ND, weights_N, plan);
}

/**
 * Gradients of {@link combineRowsForward}: `dy[n] = weights[n] · dout[token[n]]`, `dweights[n] = y[n] · dout[token[n]]`.
 *
 * @param saved - borrowed
 * @param dout_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function combineRowsBackward(saved: CombineRowsSaved, dout_TD: Tensor2D): CombineRowsGradients {
  const { y, weights, plan } = saved;
  assertShape(dout_TD, 'T D', { T: plan.tokens, D: y.shape[1] }, 'combineRows dout');
  return runOp('combineRows.backward', () => {
    const pairs = countPairs(plan);
    if (pairs === 0) {
      return { dy: zeros2D(0, y.shape[1]), dweights: tensor1d([]) };
    }
    const token_N = toIndexTensor(plan.token);
    const kernel = nativeKernel('MoebiusGatherRows');
    const dout_ND = kernel ? (kernel([dout_TD, token_N])[0] as Tensor2D) : gather(dout_TD, token_N);
    const dy = mul<Tensor2D>(dout_ND, as2D(weights, pairs, 1));
    return { dy, dweights: sum(mul(dout_ND, y), 1) };
  });
}

/**
 * The empty weights `[0]` that tell the kernel to sum plainly.
 *
 * @returns float32 `[0]`; free it in the enclosing scope
 */
export function emptyWeights(): Tensor1D {
  return tensor1d([], 'float32');
}

/**
 * Combines rows by plan, differentiable on the tape.
 *
 * @param y_ND - float32 `[N, D]`
 * @param weights_N - float32 `[N]`
 * @returns float32 `[T, D]`, owned by the caller
 */
export function combineRows(y_ND: Tensor2D, weights_N: Tensor1D, plan: RowPlan): Tensor2D {
  return runOnTape([y_ND, weights_N], {
    forward: ([y, weights]) => combineRowsForward(y as Tensor2D, weights as Tensor1D, plan),
    backward: (saved, dout) => {
      const { dy, dweights } = combineRowsBackward(saved as CombineRowsSaved, dout as Tensor2D);
      return [dy, dweights];
    },
  }) as Tensor2D;
}
