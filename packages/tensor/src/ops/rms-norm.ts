/**
 * @file Root-mean-square norm (Zhang and Sennrich 2019): `y = x · w / sqrt(mean(x²) + ε)`, per row.
 *
 * Legend: `T` rows · `D` width. The saved `inv` is `1 / sqrt(mean(x²) + ε)`.
 */
import { add, mean, mul, rsqrt, square, sub, sum } from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { cloneTensor, runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { as1D, as2D } from './reshape.ts';

/** Options of {@link rmsNormForward}. */
export interface RmsNormOptions {
  /** Added under the root; default 1e-6. */
  readonly epsilon?: number;
}

/** What {@link rmsNormBackward} needs. */
export interface RmsNormSaved {
  /** float32 `[T, D]`. */
  readonly x: Tensor2D;
  /** float32 `[D]`. */
  readonly weight: Tensor1D;
  /** float32 `[T]`: `1 / sqrt(mean(x²) + ε)`. */
  readonly inv: Tensor1D;
}

/** Gradients of {@link rmsNormForward}. */
export interface RmsNormGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** float32 `[D]`. */
  readonly dweight: Tensor1D;
}

/**
 * `y = x · w / sqrt(mean(x²) + ε)` per row.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param weight_D - float32 `[D]`, borrowed
 * @returns `y` float32 `[T, D]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function rmsNormForward(
  x_TD: Tensor2D,
  weight_D: Tensor1D,
  options: RmsNormOptions = {},
): Forward<Tensor2D, RmsNormSaved> {
  const { epsilon = 1e-6 } = options;
  const dims: Dims = {};
  assertShape(weight_D, 'D', dims, 'rmsNorm weight');
  assertShape(x_TD, 'T D', dims, 'rmsNorm x');
  return runOp('rmsNorm', () => {
    const kernel = nativeKernel('MoebiusRmsNorm');
    const [value, inv] = kernel
      ? (kernel([x_TD, weight_D], { epsilon }) as [Tensor2D, Tensor1D])
      : portableForward(x_TD, weight_D, epsilon);
    return { value, saved: { x: cloneTensor(x_TD), weight: cloneTensor(weight_D), inv } };
  });
}

function portableForward(x_TD: Tensor2D, weight_D: Tensor1D, epsilon: number): [Tensor2D, Tensor1D] {
  const inv_T1 = rsqrt(add(mean(square(x_TD), 1, true), epsilon));
  return [mul(mul(x_TD, inv_T1), weight_D), as1D(inv_T1)];
}

/**
 * Gradients of {@link rmsNormForward}: with `g = dy · w`, `dx = inv (g − x inv² mean(g x))`.
 *
 * @param saved - borrowed
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @param residual_TD - float32 `[T, D]`, borrowed: added to `dx` (the gradient that passes by the norm in a residual stream)
 * @returns fresh gradients, owned by the caller
 */
export function rmsNormBackward(
  saved: RmsNormSaved,
  dy_TD: Tensor2D,
  residual_TD?: Tensor2D,
): RmsNormGradients {
  const { x, weight, inv } = saved;
  const dims: Dims = { T: x.shape[0], D: x.shape[1] };
  assertShape(dy_TD, 'T D', dims, 'rmsNorm dy');
  if (residual_TD !== undefined) assertShape(residual_TD, 'T D', dims, 'rmsNorm residual');
  return runOp('rmsNorm.backward', () => {
    const kernel = nativeKernel(residual_TD ? 'MoebiusRmsNormGradAdd' : 'MoebiusRmsNormGrad');
    if (kernel) {
      const inputs = [x, weight, inv, dy_TD];
      const [dx, dweight] = kernel(residual_TD ? [...inputs, residual_TD] : inputs);
      return { dx: dx as Tensor2D, dweight: dweight as Tensor1D };
    }
    const inv_T1 = as2D(inv, x.shape[0], 1);
    const unit_TD = mul(x, inv_T1);
    const scaled_TD = mul(dy_TD, weight);
    const along_T1 = mean(mul(scaled_TD, unit_TD), 1, true);
    const through = mul<Tensor2D>(inv_T1, sub(scaled_TD, mul(unit_TD, along_T1)));
    const dx = residual_TD ? add<Tensor2D>(through, residual_TD) : through;
    return { dx, dweight: sum(mul(dy_TD, unit_TD), 0) };
  });
}

/**
 * Root-mean-square norm, differentiable on the tape.
 *
 * @param x_TD - float32 `[T, D]`
 * @param weight_D - float32 `[D]`
 * @returns float32 `[T, D]`, owned by the caller
 */
export function rmsNorm(x_TD: Tensor2D, weight_D: Tensor1D, options: RmsNormOptions = {}): Tensor2D {
  return runOnTape([x_TD, weight_D], {
    forward: ([x, weight]) => rmsNormForward(x as Tensor2D, weight as Tensor1D, options),
    backward: (saved, dy) => {
      const { dx, dweight } = rmsNormBackward(saved as RmsNormSaved, dy as Tensor2D);
      return [dx, dweight];
    },
  }) as Tensor2D;
}
