/**
 * @file The norm of all gradients together, and whether every number in them is finite.
 */
import { addN, square, sum } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { readHostSync, runOp } from '../ownership.ts';

/** What {@link globalNorm} finds. */
export interface GlobalNorm {
  /** `√ Σ x²` over every number of every tensor. */
  readonly norm: number;
  /** False when any number is NaN or infinite, or when the sum of squares overflows float32 (norm above 1.8e19). */
  readonly finite: boolean;
}

/**
 * The joint Euclidean norm of tensors, as host numbers: one device read.
 *
 * @param tensors - float32 `[…]` each, borrowed
 */
export function globalNorm(tensors: readonly Tensor[]): GlobalNorm {
  if (tensors.length === 0) return { norm: 0, finite: true };
  let squares = 0;
  let finite = true;
  runOp('globalNorm', () => {
    const kernel = nativeKernel('MoebiusGlobalNorm');
    if (kernel) {
      const [out] = kernel(tensors);
      const read = readHostSync(out as Tensor);
      squares = read[0] ?? 0;
      finite = read[1] === 1;
      return;
    }
    squares = readHostSync(addN(tensors.map((tensor) => sum(square(tensor)))))[0] ?? 0;
  });
  return { norm: Math.sqrt(squares), finite: finite && Number.isFinite(squares) };
}
