/**
 * @file Causal attention over whole sequences, grouped queries (Ainslie et al. 2023): training and evaluation.
 *
 * Rows are batch-major: row `b·S + s`. Query head `h` reads key/value head `floor(h / (H/J))`, as Hugging Face does.
 *
 * Legend: `B` batch · `S` sequence · `T` = B·S · `H` query heads · `J` key/value heads · `G` = H/J · `C` head width ·
 * `Z` = H·C · `Y` = J·C.
 */
import { add, matMul, mul, reshape, softmax, sub, sum, tensor2d, transpose } from '@tensorflow/tfjs';
import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import type { NativeAttributes } from '../native/kernels.ts';
import { cloneTensor, cloneTree, runOp } from '../ownership.ts';
import { assertDivides, assertShape } from './assert-shape.ts';
import { causalMask } from './attention-mask.kernel.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { as3D, as4D } from './reshape.ts';

/** Options of {@link attentionForward}. */
export interface AttentionOptions {
  /** Number of sequences `B`. */
  readonly batch: number;
  /** Query heads `H`. */
  readonly heads: number;
  /** Key/value heads `J`, dividing `H`. */
  readonly kvHeads: number;
  /** Multiplies the scores; default `1/√C`. */
  readonly scale?: number;
}

/** What {@link attentionBackward} needs. */
export interface AttentionSaved {
  /** float32 `[T, Z]`. */
  readonly q: Tensor2D;
  /** float32 `[T, Y]`. */
  readonly k: Tensor2D;
  /** float32 `[T, Y]`. */
  readonly v: Tensor2D;
  /** Native: `y` `[T, Z]` and log-sum-exp `[T, H]`. Portable: probabilities `[B·J, G·S, S]`. */
  readonly kept: readonly Tensor[];
  /** Sizes and scale. */
  readonly sizes: AttentionSizes;
}

/** Sizes of one attention call. */
export interface AttentionSizes {
  /** `B`. */
  readonly batch: number;
  /** `S`. */
  readonly sequence: number;
  /** `H`. */
  readonly heads: number;
  /** `J`. */
  readonly kvHeads: number;
  /** `C`. */
  readonly headSize: number;
  /** Multiplies the scores. */
  readonly scale: number;
}

/** Gradients of {@link attentionForward}. */
export interface AttentionGradients {
  /** float32 `[T, Z]`. */
  readonly dq: Tensor2D;
  /** float32 `[T, Y]`. */
  readonly dk: Tensor2D;
  /** float32 `[T, Y]`. */
  readonly dv: Tensor2D;
}

/**
 * Causal attention: row `s` of a sequence sees rows `0 … s`.
 *
 * @param q_TZ - float32 `[T, Z]`, borrowed
 * @param k_TY - float32 `[T, Y]`, borrowed
 * @param v_TY - float32 `[T, Y]`, borrowed
 * @param options - sizes and scale
 * @returns `y` float32 `[T, Z]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function attentionForward(
  q_TZ: Tensor2D,
  k_TY: Tensor2D,
  v_TY: Tensor2D,
  options: AttentionOptions,
): Forward<Tensor2D, AttentionSaved> {
  const sizes = attentionSizes(q_TZ, k_TY, v_TY, options);
  return runOp('attention', () => {
    const inputs = cloneTree({ q: q_TZ, k: k_TY, v: v_TY });
    const kernel = nativeKernel('MoebiusAttention');
    if (kernel) {
      const [value, lse] = kernel([q_TZ, k_TY, v_TY], kernelAttributes(sizes)) as [Tensor2D, Tensor2D];
      return { value, saved: { ...inputs, kept: [cloneTensor(value), lse], sizes } };
    }
    const [value, probabilities] = portableForward(q_TZ, k_TY, v_TY, sizes);
    return { value, saved: { ...inputs, kept: [probabilities], sizes } };
  });
}

function attentionSizes(
  q_TZ: Tensor2D,
  k_TY: Tensor2D,
  v_TY: Tensor2D,
  options: AttentionOptions,
): AttentionSizes {
  const { batch, heads, kvHeads } = options;
  assertShape(q_TZ, 'T Z', {}, 'attention q');
  const [rows, width] = q_TZ.shape;
  const headSize = assertDivides(width, heads, 'attention q width by heads');
  assertDivides(heads, kvHeads, 'attention heads by kvHeads');
  const sequence = assertDivides(rows, batch, 'attention rows by batch');
  const dims = { T: rows, Y: kvHeads * headSize };
  assertShape(k_TY, 'T Y', dims, 'attention k');
  assertShape(v_TY, 'T Y', dims, 'attention v');
  return { batch, sequence, heads, kvHeads, headSize, scale: options.scale ?? 1 / Math.sqrt(headSize) };
}

function kernelAttributes(sizes: AttentionSizes): NativeAttributes {
  const { batch, heads, kvHeads, scale } = sizes;
  return { batch, heads, kv_heads: kvHeads, scale };
}

function portableForward(
  q_TZ: Tensor2D,
  k_TY: Tensor2D,
  v_TY: Tensor2D,
  sizes: AttentionSizes,
): [Tensor2D, Tensor3D] {
  const { batch, sequence, heads, kvHeads, scale } = sizes;
  const group = heads / kvHeads;
  const q = splitHeads(q_TZ, sizes, heads);
  const k = splitHeads(k_TY, sizes, kvHeads);
  const v = splitHeads(v_TY, sizes, kvHeads);
  const scores = mul(matMul(q, k, false, true), scale);
  const mask_SS = tensor2d(causalMask(sequence), [sequence, sequence]);
  const masked = add(as4D(scores, [batch * kvHeads, group, sequence, sequence]), mask_SS);
  const probabilities = as3D(softmax(masked), batch * kvHeads, group * sequence, sequence);
  return [mergeHeads(matMul(probabilities, v) as Tensor3D, sizes, heads), probabilities];
}

/** `[T, heads·C]` as `[B·J, (heads/J)·S, C]`. */
function splitHeads(x: Tensor2D, sizes: AttentionSizes, heads: number): Tensor3D {
  const { batch, sequence, kvHeads, headSize } = sizes;
  const byHead = transpose(as4D(x, [batch, sequence, heads, headSize]), [0, 2, 1, 3]);
  return as3D(byHead, batch * kvHeads, (heads / kvHeads) * sequence, headSize);
}

/** `[B·J, (heads/J)·S, C]` as `[T, heads·C]`. */
function mergeHeads(x: Tensor3D, sizes: AttentionSizes, heads: number): Tensor2D {
  const { batch, sequence, headSize } = sizes;
  const byRow = transpose(as4D(x, [batch, heads, sequence, headSize]), [0, 2, 1, 3]);
  return reshape(byRow, [batch * sequence, heads * headSize]);
}

/**
 * Gradients of {@link attentionForward}.
 *
 * @param saved - borrowed
 * @param dy_TZ - float32 `[T, Z]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function attentionBackward(saved: AttentionSaved, dy_TZ: Tensor2D): AttentionGradients {
  const { q, k, v, kept, sizes } = saved;
  assertShape(dy_TZ, 'T Z', { T: q.shape[0], Z: q.shape[1] }, 'attention dy');
  return runOp('attention.backward', () => {
    const kernel = nativeKernel('MoebiusAttentionGrad');
    if (!kernel) return portableBackward(saved, dy_TZ);
    const outputs = kernel([q, k, v, ...kept, dy_TZ], kernelAttributes(sizes));
    const [dq, dk, dv] = outputs as [Tensor2D, Tensor2D, Tensor2D];
    return { dq, dk, dv };
  });
}

function portableBackward(saved: AttentionSaved, dy_TZ: Tensor2D): AttentionGradients {
  const { sizes } = saved;
  const { heads, kvHeads, scale } = sizes;
  const probabilities = saved.kept[0] as Tensor3D;
  const q = splitHeads(saved.q, sizes, heads);
  const k = splitHeads(saved.k, sizes, kvHeads);
  const v = splitHeads(saved.v, sizes, kvHeads);
  const dy = splitHeads(dy_TZ, sizes, heads);
  const dp = matMul(dy, v, false, true);
  const along = sum(mul(dp, probabilities), 2, true);
  const dscores = mul(mul(probabilities, sub(dp, along)), scale);
  return {
    dq: mergeHeads(matMul(dscores, k) as Tensor3D, sizes, heads),
    dk: mergeHeads(matMul(dscores, q, true, false) as Tensor3D, sizes, kvHeads),
    dv: mergeHeads(matMul(probabilities, dy, true, false) as Tensor3D, sizes, kvHeads),
  };
}

/**
 * Causal attention, differentiable on the tape.
 *
 * @param q_TZ - float32 `[T, Z]`
 * @param k_TY - float32 `[T, Y]`
 * @param v_TY - float32 `[T, Y]`
 * @returns float32 `[T, Z]`, owned by the caller
 */
export function attention(
  q_TZ: Tensor2D,
  k_TY: Tensor2D,
  v_TY: Tensor2D,
  options: AttentionOptions,
): Tensor2D {
  return runOnTape([q_TZ, k_TY, v_TY], {
    forward: (inputs) => {
      const [q, k, v] = inputs as [Tensor2D, Tensor2D, Tensor2D];
      return attentionForward(q, k, v, options);
    },
    backward: (saved, dy) => {
      const { dq, dk, dv } = attentionBackward(saved, dy as Tensor2D);
      return [dq, dk, dv];
    },
  }) as Tensor2D;
}
