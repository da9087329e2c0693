/**
 * @file Grouped matrix product: rows grouped by expert, each group times its own `[O, I]` weight.
 *
 * Legend: `N` rows · `I` in features · `O` out features · `E` groups.
 */
import { concat, matMul, slice, zerosLike } from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { cloneTree, runOp } from '../ownership.ts';
import { assertCount, assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import { toIndexTensor } from './index-tensor.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { zeros2D } from './reshape.ts';

/** What {@link groupedMatmulBackward} needs. */
export interface GroupedMatmulSaved {
  /** float32 `[N, I]`. */
  readonly x: Tensor2D;
  /** Per group float32 `[O, I]`. */
  readonly weights: readonly Tensor2D[];
  /** int32 `[E+1]`. */
  readonly offsets: Int32Array;
}

/** Gradients of {@link groupedMatmulForward}. */
export interface GroupedMatmulGradients {
  /** float32 `[N, I]`. */
  readonly dx: Tensor2D;
  /** Per group float32 `[O, I]`; zeros for groups without rows. */
  readonly dweights: readonly Tensor2D[];
}

/**
 * `y[n] = W_e x[n]` for `offsets[e] ≤ n < offsets[e+1]`.
 *
 * @param x_NI - float32 `[N, I]`, borrowed
 * @param weights - per group float32 `[O, I]`, borrowed
 * @param offsets - int32 `[E+1]`, borrowed; must not be written while `saved` lives
 * @returns `y` float32 `[N, O]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function groupedMatmulForward(
  x_NI: Tensor2D,
  weights: readonly Tensor2D[],
  offsets: Int32Array,
): Forward<Tensor2D, GroupedMatmulSaved> {
  const dims: Dims = {};
  assertCount(offsets.length, weights.length + 1, 'groupedMatmul offsets length');
  for (const [e, weight] of weights.entries()) assertShape(weight, 'O I', dims, `groupedMatmul weight ${e}`);
  assertShape(x_NI, 'N I', dims, 'groupedMatmul x');
  assertCount(offsets[weights.length] ?? 0, x_NI.shape[0], 'groupedMatmul offsets last entry');
  return runOp('groupedMatmul', () => {
    const value = multiplyGroups(x_NI, weights, offsets, dims['O'] ?? 0);
    return { value, saved: { ...cloneTree({ x: x_NI, weights }), offsets } };
  });
}

function multiplyGroups(
  x_NI: Tensor2D,
  weights: readonly Tensor2D[],
  offsets: Int32Array,
  columns: number,
): Tensor2D {
  if (x_NI.shape[0] === 0) return zeros2D(0, columns);
  const kernel = nativeKernel('MoebiusGroupedMatMul');
  if (kernel) return kernel([x_NI, toIndexTensor(offsets), ...weights])[0] as Tensor2D;
  const parts: Tensor2D[] = [];
  for (const [e, weight] of weights.entries()) {
    const rows_RI = group(x_NI, offsets, e);
    if (rows_RI !== undefined) parts.push(matMul(rows_RI, weight, false, true) as Tensor2D);
  }
  return concat(parts, 0);
}

function group(all: Tensor2D, offsets: Int32Array, e: number): Tensor2D | undefined {
  const begin = offsets[e] ?? 0;
  const rows = (offsets[e + 1] ?? 0) - begin;
  return rows === 0 ? undefined : slice(all, [begin, 0], [rows, all.shape[1]]);
}

/**
 * Gradients of {@link groupedMatmulForward}.
 *
 * @param saved - borrowed
 * @param dy_NO - float32 `[N, O]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function groupedMatmulBackward(saved: GroupedMatmulSaved, dy_NO: Tensor2D): GroupedMatmulGradients {
  const { x, weights, offsets } = saved;
  assertShape(dy_NO, 'N O', { N: x.shape[0], O: weights[0]?.shape[0] ?? 0 }, 'groupedMatmul dy');
  return runOp('groupedMatmul.backward', () => {
    if (x.shape[0] === 0) return { dx: zerosLike(x), dweights: weights.map((weight) => zerosLike(weight)) };
    const kernel = nativeKernel('MoebiusGroupedMatMulGrad');
    if (kernel) {
      const outputs = kernel([x, toIndexTensor(offsets), ...weights, dy_NO]);
      const [dx, ...dweights] = outputs as [Tensor2D, ...Tensor2D[]];
      return { dx, dweights };
    }
    const parts: Tensor2D[] = [];
    const dweights = weights.map((weight, e) => {
      const dy_RO = group(dy_NO, offsets, e);
      const x_RI = group(x, offsets, e);
      if (dy_RO === undefined || x_RI === undefined) return zerosLike(weight);
      parts.push(matMul(dy_RO, weight) as Tensor2D);
      return matMul(dy_RO, x_RI, true, false) as Tensor2D;
    });
    return { dx: concat(parts, 0), dweights };
  });
}

/**
 * Grouped matrix product, differentiable on the tape.
 *
 * @param x_NI - float32 `[N, I]`
 * @param weights - per group float32 `[O, I]`
 * @param offsets - int32 `[E+1]`
 * @returns float32 `[N, O]`, owned by the caller
 */
export function groupedMatmul(x_NI: Tensor2D, weights: readonly Tensor2D[], offsets: Int32Array): Tensor2D {
  return runOnTape([x_NI, ...weights], {
    forward: ([x, ...given]) => groupedMatmulForward(x as Tensor2D, given as Tensor2D[], offsets),
    backward: (saved, dy) => {
      const { dx, dweights } = groupedMatmulBackward(saved, dy as Tensor2D);
      return [dx, ...dweights];
    },
  }) as Tensor2D;
}
