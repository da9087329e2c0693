/**
 * @file Keys and values in two TensorFlow tensors `[B·P', Y]` that are written in place: TensorFlow's `InplaceUpdate` sets
 * rows of its input and returns the same buffer. A new token costs its own rows; when the slots are full they double.
 *
 * These tensors are the one exception to "a tensor never changes": nothing outside this file holds them, and views are
 * borrowed only until the next change.
 */
import { concat, fill, gather, keep, reshape, tensor1d } from '@tensorflow/tfjs';
import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs';

import { executeRaw, nativeBackend } from '../native/raw-op.ts';
import { runOp } from '../ownership.ts';
import { grownSlots } from './kv-store.ts';
import type { KvStore, KvStoreSizes } from './kv-store.ts';
import { rowIndices } from './native-kv-store.kernel.ts';

/** Creates an empty store on the native engine. */
export function createNativeKvStore(sizes: KvStoreSizes): KvStore {
  return new NativeKvStore(sizes, 0, undefined);
}

/** Both float32 `[B, P', Y]`. */
interface Slots {
  keys: Tensor3D;
  values: Tensor3D;
}

class NativeKvStore implements KvStore {
  readonly #sizes: KvStoreSizes;
  #count: number;
  #slots: Slots | undefined;

  constructor(sizes: KvStoreSizes, count: number, slots: Slots | undefined) {
    this.#sizes = sizes;
    this.#count = count;
    this.#slots = slots;
  }

  write(keys_TY: Tensor2D, values_TY: Tensor2D, starts: Int32Array): void {
    const { batch, width } = this.#sizes;
    const rows = keys_TY.shape[0] / batch;
    const slots = this.reserve(Math.max(...starts) + rows);
    runOp('kvCache.write', () => {
      const index = tensor1d(rowIndices(starts, rows, this.#count), 'int32');
      for (const [cache, fresh] of [
        [slots.keys, keys_TY],
        [slots.values, values_TY],
      ] as const) {
        updateRows(reshape(cache, [batch * this.#count, width]), index, fresh);
      }
    });
  }

  reserve(slots: number): Slots {
    if (slots > this.#count) this.#grow(grownSlots(slots, this.#count, this.#sizes.positions));
    return this.read();
  }

  read(): Slots {
    const { batch, width } = this.#sizes;
    const empty = (): Tensor3D => keep(fill([batch, 0, width], 0)) as Tensor3D;
    this.#slots ??= { keys: empty(), values: empty() };
    return this.#slots;
  }

  select(sequences: Int32Array): KvStore {
    const sizes = { ...this.#sizes, batch: sequences.length };
    const slots = this.#slots;
    if (slots === undefined) return new NativeKvStore(sizes, 0, undefined);
    const copied = runOp('kvCache.select', () => {
      const index = tensor1d(sequences.slice(), 'int32');
      return { keys: keep(gather(slots.keys, index)), values: keep(gather(slots.values, index)) };
    });
    return new NativeKvStore(sizes, this.#count, copied);
  }

  dispose(): void {
    this.#slots?.keys.dispose();
    this.#slots?.values.dispose();
    this.#slots = undefined;
    this.#count = 0;
  }

  #grow(count: number): void {
    const { batch, width } = this.#sizes;
    const old = this.#slots;
    const added = count - this.#count;
    const grown = runOp('kvCache.grow', () => {
      const grow = (cache: Tensor3D | undefined): Tensor3D => {
        const fresh = fill([batch, added, width], 0) as Tensor3D;
        return keep(cache === undefined ? fresh : concat([cache, fresh], 1));
      };
      return { keys: grow(old?.keys), values: grow(old?.values) };
    });
    this.dispose();
    this.#slots = grown;
    this.#count = count;
  }
}

/** Sets `rows[index[n]] = fresh[n]` inside the buffer of `rows_RY` `[R, Y]`. */
function updateRows(rows_RY: Tensor, index: Tensor, fresh: Tensor): void {
  const backend = nativeBackend();
  const { binding } = backend;
  executeRaw(backend, 'InplaceUpdate', {
    inputs: [rows_RY, index, fresh],
    attributes: [{ name: 'T', type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT }],
    outputs: 1,
  });
}
