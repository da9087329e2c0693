/**
 * @file Integer plans on their way to the engine.
 */
import { MoebiusError } from '@moebius/core';
import { Tensor, tensor1d } from '@tensorflow/tfjs';
import type { Tensor1D } from '@tensorflow/tfjs';

/** Integers `[N]`: on the host, or an int32 tensor. */
export type IndexTensor = Int32Array | Tensor1D;

/**
 * The int32 tensor of an index list. A host array is copied first, so the caller may go on using it.
 *
 * @param index - int32 `[N]`, borrowed
 * @returns int32 `[N]`; free it in the enclosing scope
 */
export function toIndexTensor(index: IndexTensor): Tensor1D {
  if (index instanceof Tensor) {
    if (index.dtype === 'int32') return index;
    throw new MoebiusError({
      code: 'shape',
      message: `index: must be int32, got ${index.dtype} (cast it, or pass an Int32Array)`,
      details: { dtype: index.dtype },
    });
  }
  return tensor1d(index.slice(), 'int32');
}

/** The number of entries `N`. */
export function indexLength(index: IndexTensor): number {
  return index instanceof Tensor ? index.size : index.length;
}

/**
 * The integers on the host. Reading a tensor blocks until it is computed.
 *
 * @param index - int32 `[N]`, borrowed
 * @returns do not write it
 */
export function toHostIndex(index: IndexTensor): Int32Array {
  return index instanceof Tensor ? (index.dataSync() as Int32Array) : index;
}

/**
 * Checks that every integer of a host list is in `[0, size)`. A tensor is not read.
 *
 * @throws `data` with the first bad value and its place
 */
export function assertIndexRange(index: IndexTensor, size: number, subject: string): void {
  if (index instanceof Tensor) return;
  for (const [place, value] of index.entries()) {
    if (value >= 0 && value < size) continue;
    throw new MoebiusError({
      code: 'data',
      message: `${subject}[${place}]: must be in [0, ${size}), got ${value}`,
      details: { subject, place, value, size },
    });
  }
}
