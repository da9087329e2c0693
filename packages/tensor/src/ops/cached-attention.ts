/**
 * @file Attention of new rows over a key/value cache: prefill, decode and speculation are one code path.
 *
 * The `n` new rows of each sequence are already in the cache: they are its last `n` filled slots (the *tail*). Row `i` of
 * sequence `b` sees slot `j < lengths[b]` when `j ≤ positions[b·n + i]`, or, with a tail mask and `j` in the tail, when
 * `tailMask[i][j − (lengths[b] − n)]` is not 0 (tree speculation). Every row must see at least one slot.
 *
 * Legend: `B` batch · `n` new rows per sequence · `T` = B·n · `P` slots · `H` heads · `J` key/value heads · `C` head width ·
 * `Z` = H·C · `Y` = J·C.
 */
import { MoebiusError } from '@moebius/core';
import { add, matMul, mul, reshape, slice, softmax, tensor2d, tensor4d, transpose } from '@tensorflow/tfjs';
import type { Tensor, Tensor2D, Tensor3D, Tensor4D } from '@tensorflow/tfjs';

import type { KvView } from '../cache/kv-cache.ts';
import { nativeKernel } from '../native/kernels.ts';
import { runOp } from '../ownership.ts';
import { assertCount, assertDivides, assertShape } from './assert-shape.ts';
import { cachedMask, largest, tailPositions } from './attention-mask.kernel.ts';
import { toIndexTensor } from './index-tensor.ts';
import { as3D, as4D, zeros2D } from './reshape.ts';

/** Options of {@link cachedAttention}. */
export interface CachedAttentionOptions {
  /** Query heads `H`. */
  readonly heads: number;
  /** Key/value heads `J`, dividing `H`. */
  readonly kvHeads: number;
  /** Multiplies the scores; default `1/√C`. */
  readonly scale?: number;
  /** int32 `[T]`: the last slot each row sees; default: its own slot. */
  readonly positions?: Int32Array;
  /** `[n, n]` row-major: which tail columns each new row sees, not 0 meaning yes; replaces `positions` in the tail. */
  readonly tailMask?: ArrayLike<number>;
}

interface Sizes {
  batch: number;
  rows: number;
  heads: number;
  kvHeads: number;
  headSize: number;
  scale: number;
}

/**
 * Attention of the last `n` rows of each cached sequence. There is no backward.
 *
 * @param q_TZ - float32 `[T, Z]`, batch-major, borrowed
 * @param view - keys and values float32 `[B, P, Y]` and the filled lengths, borrowed
 * @returns float32 `[T, Z]`, owned by the caller
 * @throws `shape`
 */
export function cachedAttention(q_TZ: Tensor2D, view: KvView, options: CachedAttentionOptions): Tensor2D {
  const sizes = cachedSizes(q_TZ, view, options);
  const { rows } = sizes;
  const positions = options.positions ?? tailPositions(view.lengths, rows);
  assertCount(positions.length, q_TZ.shape[0], 'cachedAttention positions length');
  const { tailMask } = options;
  if (tailMask !== undefined) assertCount(tailMask.length, rows * rows, 'cachedAttention tailMask length');
  return runOp('cachedAttention', () => {
    const kernel = nativeKernel('MoebiusCachedAttention');
    if (!kernel) {
      const slots = largest(view.lengths);
      const covered = { batch: sizes.batch, rows, slots };
      const mask = tensor4d(cachedMask(covered, view.lengths, positions, tailMask), [
        sizes.batch,
        1,
        rows,
        slots,
      ]);
      return portable(q_TZ, view, sizes, mask);
    }
    const tail = tailMask === undefined ? zeros2D(0, 0) : tensor2d(Float32Array.from(tailMask), [rows, rows]);
    const inputs: Tensor[] = [
      q_TZ,
      view.keys,
      view.values,
      toIndexTensor(positions),
      toIndexTensor(view.lengths),
      tail,
    ];
    const { heads, kvHeads, scale } = sizes;
    return kernel(inputs, { heads, kv_heads: kvHeads, scale })[0] as Tensor2D;
  });
}

function cachedSizes(q_TZ: Tensor2D, view: KvView, options: CachedAttentionOptions): Sizes {
  const { heads, kvHeads } = options;
  assertShape(q_TZ, 'T Z', {}, 'cachedAttention q');
  const headSize = assertDivides(q_TZ.shape[1], heads, 'cachedAttention q width by heads');
  assertDivides(heads, kvHeads, 'cachedAttention heads by kvHeads');
  const dims = { B: view.lengths.length, Y: kvHeads * headSize };
  assertShape(view.keys, 'B P Y', dims, 'cachedAttention keys');
  assertShape(view.values, 'B P Y', dims, 'cachedAttention values');
  const batch = view.lengths.length;
  const rows = assertDivides(q_TZ.shape[0], batch, 'cachedAttention rows by batch');
  for (const [sequence, length] of view.lengths.entries()) {
    if (length >= rows) continue;
    throw new MoebiusError({
      code: 'shape',
      message: `cachedAttention lengths[${sequence}]: must hold the ${rows} new rows, got ${length} (append before attending)`,
      details: { sequence, rows, length },
    });
  }
  return { batch, rows, heads, kvHeads, headSize, scale: options.scale ?? 1 / Math.sqrt(headSize) };
}

function portable(q_TZ: Tensor2D, view: KvView, sizes: Sizes, mask: Tensor4D): Tensor2D {
  const { batch, rows, heads, kvHeads, headSize, scale } = sizes;
  const group = heads / kvHeads;
  const slots = largest(view.lengths);
  const byHead = transpose(as4D(q_TZ, [batch, rows, heads, headSize]), [0, 2, 1, 3]);
  const q = as3D(byHead, batch * kvHeads, group * rows, headSize);
  const k = cachedHeads(view.keys, sizes, slots);
  const v = cachedHeads(view.values, sizes, slots);
  const scores = as4D(mul(matMul(q, k, false, true), scale), [batch, heads, rows, slots]);
  const probabilities = as3D(softmax(add(scores, mask)), batch * kvHeads, group * rows, slots);
  const mixed = as4D(matMul(probabilities, v), [batch, heads, rows, headSize]);
  return reshape(transpose(mixed, [0, 2, 1, 3]), [batch * rows, heads * headSize]);
}

/** `[B, P, Y]` as `[B·J, slots, C]`. */
function cachedHeads(cache: Tensor3D, sizes: Sizes, slots: number): Tensor3D {
  const { batch, kvHeads, headSize } = sizes;
  const filled =
    cache.shape[1] === slots ? cache : slice(cache, [0, 0, 0], [batch, slots, kvHeads * headSize]);
  const byHead = transpose(as4D(filled, [batch, slots, kvHeads, headSize]), [0, 2, 1, 3]);
  return as3D(byHead, batch * kvHeads, slots, headSize);
}
