/**
 * @file Embedding: rows of a table by id.
 *
 * Legend: `T` tokens · `V` vocabulary · `D` width.
 */
import { gather, tensor2d } from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { cloneTensor, readHostSync, runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import { assertIndexRange, indexLength, toHostIndex, toIndexTensor } from './index-tensor.ts';
import type { IndexTensor } from './index-tensor.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { addRowsByIndex } from './scatter.kernel.ts';

/** What {@link embeddingBackward} needs. */
export interface EmbeddingSaved {
  /** int32 `[T]`. */
  readonly ids: IndexTensor;
  /** Vocabulary `V`. */
  readonly vocabulary: number;
}

/** Gradient of {@link embeddingForward}. */
export interface EmbeddingGradients {
  /** float32 `[V, D]`, zero rows for ids that were not used. */
  readonly dtable: Tensor2D;
}

/**
 * `x[t] = table[ids[t]]`.
 *
 * @param table_VD - float32 `[V, D]`, borrowed
 * @param ids_T - int32 `[T]` in `[0, V)`, borrowed; a host array is copied
 * @returns `x` float32 `[T, D]` and what backward needs; the caller owns both
 * @throws `shape`; `data` on an id outside the table (host arrays only)
 */
export function embeddingForward(table_VD: Tensor2D, ids_T: IndexTensor): Forward<Tensor2D, EmbeddingSaved> {
  assertShape(table_VD, 'V D', {}, 'embedding table');
  const [vocabulary] = table_VD.shape;
  assertIndexRange(ids_T, vocabulary, 'embedding ids');
  return runOp('embedding', () => {
    const kernel = nativeKernel('MoebiusGatherRows');
    const index = toIndexTensor(ids_T);
    const value = kernel ? (kernel([table_VD, index])[0] as Tensor2D) : gather(table_VD, index);
    const ids = ids_T instanceof Int32Array ? ids_T.slice() : cloneTensor(ids_T);
    return { value, saved: { ids, vocabulary } };
  });
}

/**
 * Gradient of {@link embeddingForward}: rows of the same id are summed.
 *
 * @param saved - borrowed
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function embeddingBackward(saved: EmbeddingSaved, dy_TD: Tensor2D): EmbeddingGradients {
  const { ids, vocabulary } = saved;
  assertShape(dy_TD, 'T D', { T: indexLength(ids) }, 'embedding dy');
  const dtable = runOp('embedding.backward', () => {
    const kernel = nativeKernel('MoebiusEmbeddingGrad');
    if (kernel) return kernel([dy_TD, toIndexTensor(ids)], { vocabulary })[0] as Tensor2D;
    const width = dy_TD.shape[1];
    const summed = addRowsByIndex(readHostSync(dy_TD), toHostIndex(ids), vocabulary, width);
    return tensor2d(summed, [vocabulary, width]);
  });
  return { dtable };
}

/**
 * Rows of a table by id, differentiable on the tape.
 *
 * @param table_VD - float32 `[V, D]`
 * @param ids_T - int32 `[T]`
 * @returns float32 `[T, D]`, owned by the caller
 */
export function embedding(table_VD: Tensor2D, ids_T: IndexTensor): Tensor2D {
  return runOnTape([table_VD], {
    forward: ([table]) => embeddingForward(table as Tensor2D, ids_T),
    backward: (saved, dy) => [embeddingBackward(saved as EmbeddingSaved, dy as Tensor2D).dtable],
  }) as Tensor2D;
}
