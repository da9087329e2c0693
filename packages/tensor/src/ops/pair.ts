/**
 * @file What an operation pair is, and how one becomes a differentiable function of the tape.
 */
import { customGrad } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { listTensors, mapTree } from '../ownership.ts';

/** What a forward function returns: the value, and what its backward needs. The caller owns both. */
export interface Forward<V, S> {
  /** The result. */
  readonly value: V;
  /** What backward needs; free it with `disposeTree`. */
  readonly saved: S;
}

/** An operation written as a pair of plain functions. */
export interface OperationPair<S> {
  /** Computes the value; the inputs are borrowed. */
  readonly forward: (inputs: readonly Tensor[]) => Forward<Tensor, S>;
  /** The gradient of each input; `saved` and `dy` are borrowed. */
  readonly backward: (saved: S, dy: Tensor) => Tensor[];
}

/**
 * Runs a pair as one differentiable TensorFlow.js operation on the tape.
 *
 * @param inputs - the differentiable inputs `[…]`, in the order in which `backward` returns gradients
 * @param pair - the pair
 * @returns the value, owned by the caller
 */
export function runOnTape<S>(inputs: readonly Tensor[], pair: OperationPair<S>): Tensor {
  const run = customGrad((...args) => {
    const save = args.at(-1) as unknown as (tensors: Tensor[]) => void;
    const { value, saved } = pair.forward(args.slice(0, -1) as Tensor[]);
    const leaves = listTensors(saved);
    save(leaves);
    return {
      value,
      gradFunc: (dy: Tensor, kept: Tensor[]): Tensor[] => {
        const restored = mapTree(saved, (leaf) => kept[leaves.indexOf(leaf)] ?? leaf);
        return pair.backward(restored, dy);
      },
    };
  });
  return run(...inputs);
}
