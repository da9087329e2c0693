/**
 * @file Keys and values in host arrays: what wasm and cpu use. New rows are written in place; a view uploads the filled
 * slots, which costs as much as the attention that reads them.
 */
import { keep, tensor3d } from '@tensorflow/tfjs';
import type { Tensor2D, Tensor3D } from '@tensorflow/tfjs';

import { readHostSync } from '../ownership.ts';
import { copySlots, selectSequences, writeRows } from './host-kv-store.kernel.ts';
import { grownSlots } from './kv-store.ts';
import type { KvStore, KvStoreSizes } from './kv-store.ts';

/** Creates an empty host store. */
export function createHostKvStore(sizes: KvStoreSizes): KvStore {
  return new HostKvStore(sizes, 0, new Float32Array(0), new Float32Array(0));
}

class HostKvStore implements KvStore {
  readonly #sizes: KvStoreSizes;
  #slots: number;
  #keys: Float32Array;
  #values: Float32Array;
  #view: { keys: Tensor3D; values: Tensor3D; slots: number } | undefined;

  constructor(sizes: KvStoreSizes, slots: number, keys: Float32Array, values: Float32Array) {
    this.#sizes = sizes;
    this.#slots = slots;
    this.#keys = keys;
    this.#values = values;
  }

  write(keys_TY: Tensor2D, values_TY: Tensor2D, starts: Int32Array): void {
    const { batch, positions, width } = this.#sizes;
    const rows = keys_TY.shape[0] / batch;
    const needed = Math.max(...starts) + rows;
    this.#dropView();
    if (needed > this.#slots) {
      const slots = grownSlots(needed, this.#slots, positions);
      this.#keys = copySlots(this.#keys, { batch, width, from: this.#slots, to: slots });
      this.#values = copySlots(this.#values, { batch, width, from: this.#slots, to: slots });
      this.#slots = slots;
    }
    const place = { batch, width, slots: this.#slots, rows };
    writeRows(this.#keys, readHostSync(keys_TY), starts, place);
    writeRows(this.#values, readHostSync(values_TY), starts, place);
  }

  reserve(): undefined {
    return undefined;
  }

  read(slots: number): { keys: Tensor3D; values: Tensor3D } {
    if (this.#view?.slots === slots) return this.#view;
    this.#dropView();
    const { batch, width } = this.#sizes;
    const upload = (all: Float32Array): Tensor3D =>
      tensor3d(copySlots(all, { batch, width, from: this.#slots, to: slots }), [batch, slots, width]);
    this.#view = { keys: keep(upload(this.#keys)), values: keep(upload(this.#values)), slots };
    return this.#view;
  }

  select(sequences: Int32Array): KvStore {
    const { width } = this.#sizes;
    const block = this.#slots * width;
    return new HostKvStore(
      { ...this.#sizes, batch: sequences.length },
      this.#slots,
      selectSequences(this.#keys, sequences, block),
      selectSequences(this.#values, sequences, block),
    );
  }

  dispose(): void {
    this.#dropView();
    this.#keys = new Float32Array(0);
    this.#values = new Float32Array(0);
    this.#slots = 0;
  }

  #dropView(): void {
    this.#view?.keys.dispose();
    this.#view?.values.dispose();
    this.#view = undefined;
  }
}
