/**
 * @file Key/value cache: what attention has seen so far, per layer.
 *
 * ```
 *  append(layer, k, v) ──► slots [len, len+n) of every sequence     view(layer) ──► keys, values, lengths ──► cachedAttention
 *  truncate(lengths)       forgets the newest slots (rejected speculation)
 *  fork()                  an independent copy       gather(ids)  beams: sequence b becomes what sequence ids[b] was
 * ```
 * On the native engine new rows are written in place into a resource variable that doubles when full, so a token costs
 * its own rows and no copy of the cache. On the other engines the rows lie in host arrays, also written in place; a view
 * uploads the filled slots once per change.
 *
 * Legend: `B` batch · `n` new rows per sequence · `T` = B·n · `P` positions · `J` key/value heads · `C` head width · `Y` = J·C.
 */
import { MoebiusError } from '@moebius/core';
import type { Tensor2D, Tensor3D } from '@tensorflow/tfjs';

import { assertCount, assertDivides, assertShape } from '../ops/assert-shape.ts';
import { createKvStore } from './create-kv-store.ts';
import type { KvStore } from './kv-store.ts';

/** Sizes of a cache. */
export interface KvCacheOptions {
  /** Number of layers. */
  readonly layers: number;
  /** Sequences `B`. */
  readonly batch: number;
  /** Slots per sequence at most `P`; memory grows towards it by doubling. */
  readonly positions: number;
  /** Key/value heads `J`. */
  readonly kvHeads: number;
  /** Head width `C`. */
  readonly headSize: number;
}

/** One layer's keys and values. Borrowed from the cache until its next change. */
export interface KvView {
  /** float32 `[B, P', Y]`; slots from `lengths[b]` on are undefined. */
  readonly keys: Tensor3D;
  /** float32 `[B, P', Y]`. */
  readonly values: Tensor3D;
  /** int32 `[B]`: filled slots of each sequence. */
  readonly lengths: Int32Array;
}

/** A key/value cache. It owns its tensors; `dispose` frees them. */
export interface KvCache {
  /** Sizes; `batch` changes with {@link KvCache.gather}. */
  readonly options: KvCacheOptions;
  /** Filled slots of each sequence in a layer, int32 `[B]`; a copy. */
  lengths(layer: number): Int32Array;
  /**
   * Adds `n` rows to every sequence of a layer.
   *
   * @param keys_TY - float32 `[B·n, Y]`, batch-major, borrowed
   * @param values_TY - float32 `[B·n, Y]`, borrowed
   * @throws `shape`; `capacity` when the sequence would grow beyond `positions`
   */
  append(layer: number, keys_TY: Tensor2D, values_TY: Tensor2D): void;
  /**
   * Counts `rows` more slots of every sequence as filled and gives the view for a fused kernel that writes them in place.
   * Undefined on engines whose views are copies: use {@link KvCache.append} there.
   *
   * @throws `capacity` when a sequence would grow beyond `positions`
   */
  reserve(layer: number, rows: number): KvView | undefined;
  /** A layer's keys and values, borrowed until the layer changes. */
  view(layer: number): KvView;
  /** Forgets slots from `lengths` on (a number: of every sequence) in every layer. Longer than filled: no change. */
  truncate(lengths: number | Int32Array): void;
  /** An independent cache with the same content, owned by the caller. */
  fork(): KvCache;
  /** Makes sequence `b` what sequence `sequences[b]` was; the batch becomes `sequences.length`. */
  gather(sequences: Int32Array): void;
  /** Frees every tensor. */
  dispose(): void;
}

interface Layer {
  readonly store: KvStore;
  readonly lengths: Int32Array;
}

/**
 * Creates an empty cache.
 *
 * @example
 * ```ts
 * const cache = createKvCache({ layers: 8, batch: 1, positions: 2048, kvHeads: 2, headSize: 64 });
 * cache.append(0, k_TY, v_TY);
 * const y_TZ = cachedAttention(q_TZ, cache.view(0), { heads: 4, kvHeads: 2 });
 * cache.dispose();
 * ```
 * @throws `configuration` on a size that is not a positive integer
 */
export function createKvCache(options: KvCacheOptions): KvCache {
  for (const name of ['layers', 'batch', 'positions', 'kvHeads', 'headSize'] as const) {
    const size = options[name];
    if (Number.isInteger(size) && size > 0) continue;
    throw new MoebiusError({
      code: 'configuration',
      message: `kvCache ${name}: must be a positive integer, got ${size}`,
      details: { name, size },
    });
  }
  const { batch, positions } = options;
  const width = options.kvHeads * options.headSize;
  const layers = Array.from({ length: options.layers }, () => ({
    store: createKvStore({ batch, positions, width }),
    lengths: new Int32Array(batch),
  }));
  return new LayeredKvCache(options, layers);
}

class LayeredKvCache implements KvCache {
  #options: KvCacheOptions;
  #layers: Layer[];

  constructor(options: KvCacheOptions, layers: Layer[]) {
    this.#options = options;
    this.#layers = layers;
  }

  get options(): KvCacheOptions {
    return this.#options;
  }

  lengths(layer: number): Int32Array {
    return this.#layer(layer).lengths.slice();
  }

  append(layer: number, keys_TY: Tensor2D, values_TY: Tensor2D): void {
    const { batch, kvHeads, headSize } = this.#options;
    const { store, lengths } = this.#layer(layer);
    const dims = { Y: kvHeads * headSize };
    assertShape(keys_TY, 'T Y', dims, 'kvCache keys');
    assertShape(values_TY, 'T Y', dims, 'kvCache values');
    const rows = assertDivides(keys_TY.shape[0], batch, 'kvCache rows by batch');
    this.#assertRoom(layer, lengths, rows);
    if (rows === 0) return;
    store.write(keys_TY, values_TY, lengths);
    for (const [b, length] of lengths.entries()) lengths[b] = length + rows;
  }

  reserve(layer: number, rows: number): KvView | undefined {
    const { store, lengths } = this.#layer(layer);
    this.#assertRoom(layer, lengths, rows);
    const slots = store.reserve(Math.max(...lengths) + rows);
    if (slots === undefined) return undefined;
    for (const [b, length] of lengths.entries()) lengths[b] = length + rows;
    return { ...slots, lengths: lengths.slice() };
  }

  view(layer: number): KvView {
    const { store, lengths } = this.#layer(layer);
    return { ...store.read(Math.max(...lengths)), lengths: lengths.slice() };
  }

  truncate(lengths: number | Int32Array): void {
    const { batch } = this.#options;
    if (typeof lengths !== 'number') assertCount(lengths.length, batch, 'kvCache truncate lengths');
    for (const layer of this.#layers) {
      for (const [b, filled] of layer.lengths.entries()) {
        const wanted = typeof lengths === 'number' ? lengths : (lengths[b] ?? filled);
        layer.lengths[b] = Math.max(0, Math.min(filled, wanted));
      }
    }
  }

  fork(): KvCache {
    const all = Int32Array.from({ length: this.#options.batch }, (_, b) => b);
    return new LayeredKvCache(this.#options, selectLayers(this.#layers, all));
  }

  gather(sequences: Int32Array): void {
    const { batch } = this.#options;
    for (const [b, sequence] of sequences.entries()) {
      if (sequence >= 0 && sequence < batch) continue;
      throw new MoebiusError({
        code: 'data',
        message: `kvCache gather[${b}]: must be in [0, ${batch}), got ${sequence}`,
        details: { place: b, sequence, batch },
      });
    }
    const next = selectLayers(this.#layers, sequences);
    for (const { store } of this.#layers) store.dispose();
    this.#layers = next;
    this.#options = { ...this.#options, batch: sequences.length };
  }

  dispose(): void {
    for (const { store } of this.#layers) store.dispose();
    this.#layers = [];
  }

  #assertRoom(layer: number, lengths: Int32Array, rows: number): void {
    const { positions } = this.#options;
    const longest = Math.max(...lengths);
    if (longest + rows <= positions) return;
    throw new MoebiusError({
      code: 'capacity',
      message: `kvCache layer ${layer}: must hold at most ${positions} positions, got ${longest} + ${rows} (create it with more positions)`,
      details: { layer, positions, filled: longest, rows },
    });
  }

  #layer(index: number): Layer {
    const layer = this.#layers[index];
    if (layer !== undefined) return layer;
    const { length } = this.#layers;
    throw new MoebiusError({
      code: length === 0 ? 'ownership' : 'data',
      message:
        length === 0
          ? 'kvCache: must not be used after dispose'
          : `kvCache layer: must be in [0, ${length}), got ${index}`,
      details: { layer: index, layers: length },
    });
  }
}

function selectLayers(layers: readonly Layer[], sequences: Int32Array): Layer[] {
  return layers.map(({ store, lengths }) => ({
    store: store.select(sequences),
    lengths: Int32Array.from(sequences, (sequence) => lengths[sequence] ?? 0),
  }));
}
