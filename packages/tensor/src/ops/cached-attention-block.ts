/**
 * @file The attention half of a decoder layer for inference, in one call: norm, projections, per-head norm and rotary positions,
 * append to the cache, attention, output projection, residual. One kernel on the native engine, composed pairs elsewhere.
 *
 * Legend: `B` batch · `n` new rows per sequence · `T` = B·n · `D` model width · `H` query heads · `J` key/value heads · `C` head
 * width · `Z` = H·C · `Y` = J·C · `R` turned part of a head.
 */
import { tensor1d } from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import type { KvCache } from '../cache/kv-cache.ts';
import { nativeKernel } from '../native/kernels.ts';
import { runOp } from '../ownership.ts';
import { assertCount, assertDivides, assertShape } from './assert-shape.ts';
import { cachedAttention } from './cached-attention.ts';
import { headNormRopeForward } from './head-norm-rope.ts';
import { assertIndexRange, toIndexTensor } from './index-tensor.ts';
import { linearAddForward } from './linear.ts';
import { normLinears } from './norm-linears.ts';
import { zeros2D } from './reshape.ts';
import { rmsNormForward } from './rms-norm.ts';
import type { RotaryTable } from './rotary.ts';

/** Weights of the attention half of a layer. */
export interface AttentionBlockWeights {
  /** float32 `[D]`: RMS norm before the projections; null: none. */
  readonly norm: Tensor1D | null;
  /** float32 `[Z, D]`. */
  readonly query: Tensor2D;
  /** float32 `[Y, D]`. */
  readonly key: Tensor2D;
  /** float32 `[Y, D]`. */
  readonly value: Tensor2D;
  /** float32 `[D, Z]`. */
  readonly output: Tensor2D;
  /** float32 `[C]`: norm of each query head, or `[Z]`: norm over the row; null: none. */
  readonly queryNorm: Tensor1D | null;
  /** float32 `[C]` or `[Y]`; null: none. */
  readonly keyNorm: Tensor1D | null;
}

/** Options of {@link cachedAttentionBlock}. */
export interface AttentionBlockOptions {
  /** The cache; the new rows are appended to it. */
  readonly cache: KvCache;
  /** Which layer of the cache. */
  readonly layer: number;
  /** Query heads `H`. */
  readonly heads: number;
  /** Multiplies the scores; default `1/√C`. */
  readonly scale?: number;
  /** Of every norm; default 1e-6. */
  readonly epsilon?: number;
  /** int32 `[T]`: rotary position of each row; needed with a table. */
  readonly positions?: Int32Array;
  /** Rotary table, borrowed. */
  readonly table?: RotaryTable;
}

/**
 * `y = x + o(attention(rope(q), rope(k), v))` of `rmsNorm(x)`, the new keys and values appended to the cache. Row `i` of a
 * sequence sees everything cached before it and itself. There is no backward.
 *
 * @param x_TD - float32 `[T, D]`, batch-major, borrowed
 * @param weights - borrowed
 * @returns float32 `[T, D]`, owned by the caller
 * @throws `shape`; `data` on a position outside the table; `capacity` when the cache is full
 */
export function cachedAttentionBlock(
  x_TD: Tensor2D,
  weights: AttentionBlockWeights,
  options: AttentionBlockOptions,
): Tensor2D {
  const rows = assertBlock(x_TD, weights, options);
  return runOp('cachedAttentionBlock', () => {
    const kernel = nativeKernel('MoebiusCachedBlock');
    const view = kernel ? options.cache.reserve(options.layer, rows) : undefined;
    if (!kernel || !view) return portable(x_TD, weights, options);
    const { table, positions, heads, epsilon = 1e-6 } = options;
    const { kvHeads, headSize } = options.cache.options;
    const inputs: Tensor[] = [
      x_TD,
      weights.norm ?? empty(),
      weights.query,
      weights.key,
      weights.value,
      weights.output,
      weights.queryNorm ?? empty(),
      weights.keyNorm ?? empty(),
      table?.cos ?? zeros2D(0, 0),
      table?.sin ?? zeros2D(0, 0),
      toIndexTensor(positions ?? new Int32Array(x_TD.shape[0])),
      view.keys,
      view.values,
      toIndexTensor(view.lengths),
    ];
    const scale = options.scale ?? 1 / Math.sqrt(headSize);
    return kernel(inputs, { heads, kv_heads: kvHeads, scale, epsilon })[0] as Tensor2D;
  });
}

function empty(): Tensor1D {
  return tensor1d([], 'float32');
}

/** @returns new rows per sequence */
function assertBlock(x_TD: Tensor2D, weights: AttentionBlockWeights, options: AttentionBlockOptions): number {
  const { cache, heads, positions, table } = options;
  const { batch, kvHeads, headSize } = cache.options;
  assertDivides(heads, kvHeads, 'attention block heads by kvHeads');
  const dims = { Z: heads * headSize, Y: kvHeads * headSize };
  assertShape(x_TD, 'T D', dims, 'attention block x');
  if (weights.norm !== null) assertShape(weights.norm, 'D', dims, 'attention block norm');
  assertShape(weights.query, 'Z D', dims, 'attention block query');
  assertShape(weights.key, 'Y D', dims, 'attention block key');
  assertShape(weights.value, 'Y D', dims, 'attention block value');
  assertShape(weights.output, 'D Z', dims, 'attention block output');
  for (const [norm, width] of [
    [weights.queryNorm, dims.Z],
    [weights.keyNorm, dims.Y],
  ] as const) {
    if (norm !== null && norm.size !== headSize) assertCount(norm.size, width, 'attention block head norm');
  }
  if (table !== undefined) {
    assertCount(positions?.length ?? 0, x_TD.shape[0], 'attention block positions length');
    assertIndexRange(positions ?? new Int32Array(0), table.cos.shape[0], 'attention block positions');
  }
  return assertDivides(x_TD.shape[0], batch, 'attention block rows by batch');
}

function portable(x_TD: Tensor2D, weights: AttentionBlockWeights, options: AttentionBlockOptions): Tensor2D {
  const { cache, layer, heads, epsilon = 1e-6 } = options;
  const { kvHeads } = cache.options;
  const projections = [weights.query, weights.key, weights.value];
  const [q, k, v] = normLinears(x_TD, weights.norm, projections, { epsilon }) as [
    Tensor2D,
    Tensor2D,
    Tensor2D,
  ];
  const queries = prepare(q, weights.queryNorm, { ...options, heads });
  const keys = prepare(k, weights.keyNorm, { ...options, heads: kvHeads });
  cache.append(layer, keys, v);
  const scale = options.scale === undefined ? {} : { scale: options.scale };
  const mixed_TZ = cachedAttention(queries, cache.view(layer), { heads, kvHeads, ...scale });
  return linearAddForward(mixed_TZ, weights.output, x_TD).value;
}

/** Norm (per head or over the row) and rotary positions. */
function prepare(x_TZ: Tensor2D, norm: Tensor1D | null, options: AttentionBlockOptions): Tensor2D {
  const { heads, epsilon = 1e-6, positions, table } = options;
  const overRow = norm !== null && norm.size === x_TZ.shape[1] && heads > 1;
  const normed = overRow ? rmsNormForward(x_TZ, norm, { epsilon }).value : x_TZ;
  const turn = table === undefined || positions === undefined ? {} : { table, positions };
  return headNormRopeForward(normed, overRow ? null : norm, { heads, epsilon, ...turn }).value;
}
