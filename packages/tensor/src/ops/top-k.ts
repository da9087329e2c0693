/**
 * @file The `K` largest scores of each row, ties to the lowest index, with the gradient TensorFlow.js lacks.
 *
 * Legend: `T` rows · `E` columns · `K` chosen.
 */
import { MoebiusError } from '@moebius/core';
import { expandDims, mul, sum, tensor2d, topk } from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';

import { cloneTensor, readHostSync, runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import { oneHotRows } from './one-hot.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { as3D } from './reshape.ts';

/** Value of {@link topKForward}. */
export interface TopKValue {
  /** float32 `[T, K]`, descending. */
  readonly values: Tensor2D;
  /** int32 `[T, K]`: column of each value. */
  readonly ids: Tensor2D;
}

/** What {@link topKBackward} needs. */
export interface TopKSaved {
  /** int32 `[T, K]`. */
  readonly ids: Tensor2D;
  /** Columns `E`. */
  readonly columns: number;
}

/** Gradient of {@link topKForward}. */
export interface TopKGradients {
  /** float32 `[T, E]`, zero where not chosen. */
  readonly dscores: Tensor2D;
}

/**
 * The `k` largest scores of each row, descending; equal scores keep the order of their indices.
 *
 * @param scores_TE - float32 `[T, E]`, borrowed
 * @param k - how many, in `[1, E]`
 * @returns values and columns, and what backward needs; the caller owns both
 * @throws `shape`
 */
export function topKForward(scores_TE: Tensor2D, k: number): Forward<TopKValue, TopKSaved> {
  assertShape(scores_TE, 'T E', {}, 'topK scores');
  const columns = scores_TE.shape[1];
  if (!Number.isInteger(k) || k < 1 || k > columns) {
    throw new MoebiusError({
      code: 'shape',
      message: `topK k: must be an integer in [1, ${columns}], got ${k}`,
      details: { k, columns },
    });
  }
  return runOp('topK', () => {
    const { values, indices } = topk(scores_TE, k, true);
    const ids = indices as Tensor2D;
    return { value: { values, ids }, saved: { ids: cloneTensor(ids), columns } };
  });
}

/**
 * Gradient of {@link topKForward} with respect to the scores.
 *
 * @param saved - borrowed
 * @param dvalues_TK - float32 `[T, K]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function topKBackward(saved: TopKSaved, dvalues_TK: Tensor2D): TopKGradients {
  const { ids, columns } = saved;
  const [rows, chosen] = ids.shape;
  assertShape(dvalues_TK, 'T K', { T: rows, K: chosen }, 'topK dvalues');
  const dscores = runOp('topK.backward', () => {
    const places_TKE = as3D(oneHotRows(ids, columns), rows, chosen, columns);
    return sum<Tensor2D>(mul(places_TKE, expandDims(dvalues_TK, 2)), 1);
  });
  return { dscores };
}

/**
 * The `k` largest scores of each row; the values are differentiable on the tape.
 *
 * @param scores_TE - float32 `[T, E]`
 * @returns values and columns, owned by the caller
 */
export function topK(scores_TE: Tensor2D, k: number): TopKValue {
  let hostIds = new Int32Array(0);
  const values = runOnTape([scores_TE], {
    forward: ([scores]) => {
      const { value, saved } = topKForward(scores as Tensor2D, k);
      hostIds = Int32Array.from(readHostSync(value.ids));
      return { value: value.values, saved };
    },
    backward: (saved, dy) => [topKBackward(saved as TopKSaved, dy as Tensor2D).dscores],
  }) as Tensor2D;
  return { values, ids: tensor2d(hostIds, [scores_TE.shape[0], k], 'int32') };
}
