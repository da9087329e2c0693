/**
 * @file Row copies of the host key/value store. Typed arrays only.
 */

/**
 * `[B, from, Y]` as `[B, to, Y]`: cut, or filled with zeros.
 *
 * @returns a new array
 */
export function copySlots(
  all: Float32Array,
  sizes: { batch: number; width: number; from: number; to: number },
): Float32Array {
  const { batch, width, from, to } = sizes;
  const out = new Float32Array(batch * to * width);
  const block = Math.min(from, to) * width;
  for (let b = 0; b < batch; b += 1) {
    const begin = b * from * width;
    out.set(all.subarray(begin, begin + block), b * to * width);
  }
  return out;
}

/**
 * Writes rows `[B·n, Y]` into `[B, slots, Y]`, sequence `b` from slot `starts[b]` on.
 */
export function writeRows(
  all: Float32Array,
  rows: ArrayLike<number>,
  starts: Int32Array,
  sizes: { batch: number; width: number; slots: number; rows: number },
): void {
  const { batch, width, slots } = sizes;
  const block = sizes.rows * width;
  for (let b = 0; b < batch; b += 1) {
    const to = (b * slots + starts[b]!) * width;
    for (let i = 0; i < block; i += 1) all[to + i] = rows[b * block + i]!;
  }
}

/**
 * Blocks `sequences[0], sequences[1], …` of an array of blocks.
 *
 * @returns a new array
 */
export function selectSequences(all: Float32Array, sequences: Int32Array, block: number): Float32Array {
  const out = new Float32Array(sequences.length * block);
  for (let b = 0; b < sequences.length; b += 1) {
    const begin = sequences[b]! * block;
    out.set(all.subarray(begin, begin + block), b * block);
  }
  return out;
}
