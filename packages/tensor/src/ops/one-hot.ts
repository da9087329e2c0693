/**
 * @file One-hot rows of any depth: TensorFlow.js refuses depth 1.
 */
import { cast, equal, range } from '@tensorflow/tfjs';
import type { Tensor, Tensor2D } from '@tensorflow/tfjs';

import { as2D } from './reshape.ts';

/**
 * `out[n][ids[n]] = 1`, all else 0.
 *
 * @param ids - int32 `[…]` of `N` numbers in `[0, depth)`, borrowed
 * @returns float32 `[N, depth]`; free it in the enclosing scope
 */
export function oneHotRows(ids: Tensor, depth: number): Tensor2D {
  return cast(equal(as2D(ids, ids.size, 1), range(0, depth, 1, 'int32')), 'float32') as Tensor2D;
}
