/**
 * @file Turns any differentiable TensorFlow.js function into an operation pair, so that a plugin written with plain
 * `tf` operations fits into layers with explicit backward passes.
 */
import { engine, zerosLike } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { cloneTree, runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import type { Forward } from './pair.ts';

/** What the backward of a {@link fromTfjs} pair needs. */
export interface TfjsSaved {
  /** Clones of the inputs, `[…]` each. */
  readonly inputs: readonly Tensor[];
  /** Shape of the value. */
  readonly shape: readonly number[];
}

/** A pair made of a TensorFlow.js function. */
export interface TfjsPair {
  /** The value; inputs are borrowed, the caller owns value and saved. */
  readonly forward: (...inputs: Tensor[]) => Forward<Tensor, TfjsSaved>;
  /** The gradient of each input, zeros where the value does not depend on it; owned by the caller. */
  readonly backward: (saved: TfjsSaved, dy: Tensor) => Tensor[];
}

/**
 * Makes a pair of a differentiable function. Backward computes the function once more on the tape: it costs one more
 * forward, and holds nothing but the inputs in between.
 *
 * @param fn - from float32 tensors `[…]` to one float32 tensor `[…]`; pure, synchronous
 * @param name - for profiles and errors
 * @example
 * ```ts
 * const swish = fromTfjs((x) => mul(x ?? 0, sigmoid(x ?? 0)));
 * const { value, saved } = swish.forward(x_TD);
 * const [dx] = swish.backward(saved, dy_TD);
 * ```
 */
export function fromTfjs(fn: (...inputs: Tensor[]) => Tensor, name = 'fromTfjs'): TfjsPair {
  return {
    forward: (...inputs) =>
      runOp(name, () => {
        const value = fn(...inputs);
        return { value, saved: { inputs: cloneTree(inputs), shape: value.shape } };
      }),
    backward: (saved, dy) => {
      assertShape(dy, saved.shape.join(' '), {}, `${name} dy`);
      return runOp(`${name}.backward`, () => {
        const inputs = [...saved.inputs];
        const { grads } = engine().gradients(() => fn(...inputs), inputs, dy, true);
        return inputs.map((input, index) => grads[index] ?? zerosLike(input));
      });
    },
  };
}
