/**
 * @file The attention half of a decoder layer: `x + o(attention(rope(norm(q)), rope(norm(k)), v))` of `h = norm(x)`.
 *
 * Grouped-query attention with a root-mean-square norm per head before RoPE (Qwen3). Training and evaluation see the
 * whole sequence; generation appends to a KV cache and attends to its view. Both are the same projections.
 *
 * Letters: `T` tokens = B·S · `D` model width · `Z` = H·C query width · `Y` = J·C key/value width · `C` head width.
 */
import {
  add,
  attentionBackward,
  attentionForward,
  cachedAttentionBlock,
  disposeTree,
  headNormRopeBackward,
  headNormRopeForward,
  linearAddForward,
  linearBackward,
  linearsBackward,
  linearsForward,
  rmsNormBackward,
  rmsNormForward,
  runOp,
} from '@moebius/tensor';
import type {
  AttentionSaved,
  Forward,
  HeadNormRopeSaved,
  KvCache,
  LinearSaved,
  LinearsSaved,
  RmsNormSaved,
  Tensor1D,
  Tensor2D,
} from '@moebius/tensor';

import type { ModelConfig } from './config.ts';
import type { ForwardPass } from './block.ts';

/** Weights of one layer's attention, borrowed for one pass. */
export interface AttentionWeights {
  /** float32 `[D]` */
  readonly inputNorm: Tensor1D;
  /** float32 `[Z, D]` */
  readonly query: Tensor2D;
  /** float32 `[Y, D]` */
  readonly key: Tensor2D;
  /** float32 `[Y, D]` */
  readonly value: Tensor2D;
  /** float32 `[C]` */
  readonly queryNorm: Tensor1D;
  /** float32 `[C]` */
  readonly keyNorm: Tensor1D;
  /** float32 `[D, Z]` */
  readonly output: Tensor2D;
}

/** What {@link takeAttentionBackward} needs. */
export interface AttentionBlockSaved {
  /** Of the input norm. */
  readonly norm: RmsNormSaved;
  /** Of query, key and value projection. */
  readonly projections: LinearsSaved;
  /** Of the queries' norm and RoPE. */
  readonly queryRope: HeadNormRopeSaved;
  /** Of the keys' norm and RoPE. */
  readonly keyRope: HeadNormRopeSaved;
  /** Of attention. */
  readonly attention: AttentionSaved;
  /** Of the output projection. */
  readonly output: LinearSaved;
}

/** Gradients of one layer's attention; the caller owns them. */
export interface AttentionBlockGradients {
  /** float32 `[T, D]`, of the layer's input, the residual path included. */
  readonly dx: Tensor2D;
  /** Of the weights, by name. */
  readonly weights: AttentionWeights;
}

/**
 * Attention over whole sequences, with what backward needs.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param weights - `[…]`, borrowed
 * @param scope - sizes, positions and the rotary table
 * @returns float32 `[T, D]` and what backward needs; the caller owns both
 */
export function attentionBlockForward(
  x_TD: Tensor2D,
  weights: AttentionWeights,
  scope: { readonly config: ModelConfig; readonly pass: ForwardPass },
): Forward<Tensor2D, AttentionBlockSaved> {
  const { config, pass } = scope;
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, rms_norm_eps: epsilon } = config;
  return runOp('attentionBlock', () => {
    const norm = rmsNormForward(x_TD, weights.inputNorm, { epsilon });
    const projected = linearsForward(norm.value, [weights.query, weights.key, weights.value]);
    const [query, key, value] = projected.value as [Tensor2D, Tensor2D, Tensor2D];
    const rope = { epsilon, positions: pass.positions, table: pass.table };
    const queryRope = headNormRopeForward(query, weights.queryNorm, { ...rope, heads });
    const keyRope = headNormRopeForward(key, weights.keyNorm, { ...rope, heads: kvHeads });
    const sizes = { batch: pass.batch, heads, kvHeads };
    const attended = attentionForward(queryRope.value, keyRope.value, value, sizes);
    const output = linearAddForward(attended.value, weights.output, x_TD);
    return {
      value: output.value,
      saved: {
        norm: norm.saved,
        projections: projected.saved,
        queryRope: queryRope.saved,
        keyRope: keyRope.saved,
        attention: attended.saved,
        output: output.saved,
      },
    };
  });
}

/**
 * Gradients of {@link attentionBlockForward}. Frees `saved`.
 *
 * @param saved - taken
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients; the caller owns them
 */
export function takeAttentionBackward(saved: AttentionBlockSaved, dy_TD: Tensor2D): AttentionBlockGradients {
  try {
    return runOp('attentionBlock.backward', () => {
      const output = linearBackward(saved.output, dy_TD);
      const attended = attentionBackward(saved.attention, output.dx);
      const queryRope = headNormRopeBackward(saved.queryRope, attended.dq);
      const keyRope = headNormRopeBackward(saved.keyRope, attended.dk);
      const { dx, dweights } = linearsBackward(saved.projections, [queryRope.dx, keyRope.dx, attended.dv]);
      const [query, key, value] = dweights as [Tensor2D, Tensor2D, Tensor2D];
      const norm = rmsNormBackward(saved.norm, dx);
      return {
        dx: add<Tensor2D>(dy_TD, norm.dx),
        weights: {
          inputNorm: norm.dweight,
          query,
          key,
          value,
          queryNorm: queryRope.dweight as Tensor1D,
          keyNorm: keyRope.dweight as Tensor1D,
          output: output.dweight,
        },
      };
    });
  } finally {
    disposeTree(saved);
  }
}

/**
 * Attention of new rows over the cache, which they are appended to first. Nothing is saved.
 *
 * @param x_TD - float32 `[T, D]`, the new rows of every cached sequence, borrowed
 * @param weights - `[…]`, borrowed
 * @param scope - sizes, positions, rotary table, cache and layer
 * @returns float32 `[T, D]`; the caller owns it
 */
export function attentionBlockCached(
  x_TD: Tensor2D,
  weights: AttentionWeights,
  scope: {
    readonly config: ModelConfig;
    readonly pass: ForwardPass;
    readonly layer: number;
    readonly cache: KvCache;
  },
): Tensor2D {
  const { config, pass, layer, cache } = scope;
  const { inputNorm: norm, ...rest } = weights;
  return cachedAttentionBlock(
    x_TD,
    { norm, ...rest },
    {
      cache,
      layer,
      heads: config.num_attention_heads,
      epsilon: config.rms_norm_eps,
      positions: pass.hostPositions,
      table: pass.table,
    },
  );
}
