/**
 * @file Several linear maps of one input: `y_l = x W_lᵀ`. Query, key and value projections are one call, and one kernel on
 * the native engine.
 *
 * Legend: `T` rows · `I` in features · `O` out features of one weight (they may differ).
 */
import { addN, matMul } from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { cloneTree, runOp } from '../ownership.ts';
import { assertCount, assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import type { Forward } from './pair.ts';

/** What {@link linearsBackward} needs. */
export interface LinearsSaved {
  /** float32 `[T, I]`. */
  readonly x: Tensor2D;
  /** Each float32 `[O, I]`. */
  readonly weights: readonly Tensor2D[];
}

/** Gradients of {@link linearsForward}. */
export interface LinearsGradients {
  /** float32 `[T, I]`: the sum over the maps. */
  readonly dx: Tensor2D;
  /** Each float32 `[O, I]`. */
  readonly dweights: readonly Tensor2D[];
}

/**
 * `y_l = x W_lᵀ` for every weight. On the tape use `linear` for each.
 *
 * @param x_TI - float32 `[T, I]`, borrowed
 * @param weights - at least one, each float32 `[O, I]`, borrowed
 * @returns one float32 `[T, O]` per weight and what backward needs; the caller owns both
 * @throws `shape`
 */
export function linearsForward(
  x_TI: Tensor2D,
  weights: readonly Tensor2D[],
): Forward<readonly Tensor2D[], LinearsSaved> {
  const dims: Dims = {};
  assertShape(x_TI, 'T I', dims, 'linears x');
  for (const [l, weight] of weights.entries()) assertShape(weight, '* I', dims, `linears weight ${l}`);
  return runOp('linears', () => {
    const kernel = weights.length > 0 ? nativeKernel('MoebiusLinear') : undefined;
    const value = kernel
      ? (kernel([x_TI, ...weights]) as Tensor2D[])
      : weights.map((weight) => matMul(x_TI, weight, false, true) as Tensor2D);
    return { value, saved: cloneTree({ x: x_TI, weights: [...weights] }) };
  });
}

/**
 * Gradients of {@link linearsForward}.
 *
 * @param saved - borrowed
 * @param dys - one float32 `[T, O]` per weight, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function linearsBackward(saved: LinearsSaved, dys: readonly Tensor2D[]): LinearsGradients {
  const { x, weights } = saved;
  assertCount(dys.length, weights.length, 'linears dys');
  for (const [l, dy] of dys.entries()) {
    assertShape(dy, 'T O', { T: x.shape[0], O: weights[l]?.shape[0] ?? 0 }, `linears dy ${l}`);
  }
  return runOp('linears.backward', () => {
    const kernel = nativeKernel('MoebiusLinearGrad');
    if (kernel) {
      const [dx, ...dweights] = kernel([x, ...weights, ...dys]) as [Tensor2D, ...Tensor2D[]];
      return { dx, dweights };
    }
    const dx = addN(weights.map((weight, l) => matMul(dys[l] as Tensor2D, weight) as Tensor2D));
    return { dx, dweights: dys.map((dy) => matMul(dy, x, true, false) as Tensor2D) };
  });
}
