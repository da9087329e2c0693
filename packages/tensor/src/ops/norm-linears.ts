/**
 * @file RMS norm and several linear maps of the result, for inference: one kernel on the native engine.
 *
 * Legend: `T` rows · `D` width · `O` out features of one weight (they may differ).
 */
import { matMul, tensor1d } from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import { rmsNormForward } from './rms-norm.ts';
import type { RmsNormOptions } from './rms-norm.ts';

/**
 * `y_l = rmsNorm(x) W_lᵀ` for every weight. There is no backward.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param norm_D - float32 `[D]`, borrowed; null: no norm
 * @param weights - at least one, each float32 `[O, D]`, borrowed
 * @returns one float32 `[T, O]` per weight, owned by the caller
 * @throws `shape`
 */
export function normLinears(
  x_TD: Tensor2D,
  norm_D: Tensor1D | null,
  weights: readonly Tensor2D[],
  options: RmsNormOptions = {},
): Tensor2D[] {
  const { epsilon = 1e-6 } = options;
  const dims: Dims = {};
  assertShape(x_TD, 'T D', dims, 'normLinears x');
  if (norm_D !== null) assertShape(norm_D, 'D', dims, 'normLinears norm');
  for (const [l, weight] of weights.entries()) assertShape(weight, '* D', dims, `normLinears weight ${l}`);
  return runOp('normLinears', () => {
    const kernel = weights.length > 0 ? nativeKernel('MoebiusNormLinear') : undefined;
    if (kernel) {
      return kernel([x_TD, norm_D ?? tensor1d([], 'float32'), ...weights], { epsilon }) as Tensor2D[];
    }
    const normed_TD = norm_D === null ? x_TD : rmsNormForward(x_TD, norm_D, { epsilon }).value;
    return weights.map((weight) => matMul(normed_TD, weight, false, true) as Tensor2D);
  });
}
