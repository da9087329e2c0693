/**
 * @file Linear map `y = x Wᵀ + b`, weights stored `[O, I]` as Hugging Face stores them.
 *
 * Legend: `T` rows · `I` in features · `O` out features.
 */
import { add, matMul, sum } from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { cloneTree, runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';

/** What {@link linearBackward} needs. */
export interface LinearSaved {
  /** float32 `[T, I]`. */
  readonly x: Tensor2D;
  /** float32 `[O, I]`. */
  readonly weight: Tensor2D;
  /** Whether there was a bias. */
  readonly biased: boolean;
}

/** Gradients of {@link linearForward}. */
export interface LinearGradients {
  /** float32 `[T, I]`. */
  readonly dx: Tensor2D;
  /** float32 `[O, I]`. */
  readonly dweight: Tensor2D;
  /** float32 `[O]`, when there was a bias. */
  readonly dbias?: Tensor1D;
}

/**
 * `y = x Wᵀ + b`.
 *
 * @param x_TI - float32 `[T, I]`, borrowed
 * @param weight_OI - float32 `[O, I]`, borrowed
 * @param bias_O - float32 `[O]`, borrowed
 * @returns `y` float32 `[T, O]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function linearForward(
  x_TI: Tensor2D,
  weight_OI: Tensor2D,
  bias_O?: Tensor1D,
): Forward<Tensor2D, LinearSaved> {
  const dims: Dims = {};
  assertShape(weight_OI, 'O I', dims, 'linear weight');
  assertShape(x_TI, 'T I', dims, 'linear x');
  if (bias_O !== undefined) assertShape(bias_O, 'O', dims, 'linear bias');
  return runOp('linear', () => {
    const product_TO = multiply(x_TI, weight_OI);
    const value = bias_O === undefined ? product_TO : add<Tensor2D>(product_TO, bias_O);
    return { value, saved: cloneTree({ x: x_TI, weight: weight_OI, biased: bias_O !== undefined }) };
  });
}

function multiply(x_TI: Tensor2D, weight_OI: Tensor2D): Tensor2D {
  const kernel = nativeKernel('MoebiusLinear');
  return (kernel ? kernel([x_TI, weight_OI])[0] : matMul(x_TI, weight_OI, false, true)) as Tensor2D;
}

/**
 * `y = x Wᵀ + r`: a projection into the residual stream, one kernel on the native engine. Its gradients are
 * {@link linearBackward}'s and `dr = dy`.
 *
 * @param x_TI - float32 `[T, I]`, borrowed
 * @param weight_OI - float32 `[O, I]`, borrowed
 * @param residual_TO - float32 `[T, O]`, borrowed
 * @returns `y` float32 `[T, O]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function linearAddForward(
  x_TI: Tensor2D,
  weight_OI: Tensor2D,
  residual_TO: Tensor2D,
): Forward<Tensor2D, LinearSaved> {
  const dims: Dims = {};
  assertShape(weight_OI, 'O I', dims, 'linearAdd weight');
  assertShape(x_TI, 'T I', dims, 'linearAdd x');
  assertShape(residual_TO, 'T O', dims, 'linearAdd residual');
  return runOp('linearAdd', () => {
    const kernel = nativeKernel('MoebiusLinearAdd');
    const value = kernel
      ? (kernel([x_TI, weight_OI, residual_TO])[0] as Tensor2D)
      : add<Tensor2D>(matMul(x_TI, weight_OI, false, true), residual_TO);
    return { value, saved: cloneTree({ x: x_TI, weight: weight_OI, biased: false }) };
  });
}

/**
 * Gradients of {@link linearForward}.
 *
 * @param saved - borrowed
 * @param dy_TO - float32 `[T, O]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function linearBackward(saved: LinearSaved, dy_TO: Tensor2D): LinearGradients {
  const { x, weight, biased } = saved;
  assertShape(dy_TO, 'T O', { T: x.shape[0], O: weight.shape[0] }, 'linear dy');
  return runOp('linear.backward', () => {
    const kernel = nativeKernel('MoebiusLinearGrad');
    const [dx, dweight] = (
      kernel ? kernel([x, weight, dy_TO]) : [matMul(dy_TO, weight), matMul(dy_TO, x, true, false)]
    ) as [Tensor2D, Tensor2D];
    return biased ? { dx, dweight, dbias: sum(dy_TO, 0) } : { dx, dweight };
  });
}

/**
 * `y = x Wᵀ + b`, differentiable on the tape.
 *
 * @param x_TI - float32 `[T, I]`
 * @param weight_OI - float32 `[O, I]`
 * @param bias_O - float32 `[O]`
 * @returns float32 `[T, O]`, owned by the caller
 */
export function linear(x_TI: Tensor2D, weight_OI: Tensor2D, bias_O?: Tensor1D): Tensor2D {
  const inputs = bias_O === undefined ? [x_TI, weight_OI] : [x_TI, weight_OI, bias_O];
  return runOnTape(inputs, {
    forward: ([x, weight, bias]) =>
      linearForward(x as Tensor2D, weight as Tensor2D, bias as Tensor1D | undefined),
    backward: (saved, dy) => {
      const { dx, dweight, dbias } = linearBackward(saved as LinearSaved, dy as Tensor2D);
      return dbias === undefined ? [dx, dweight] : [dx, dweight, dbias];
    },
  }) as Tensor2D;
}
