/**
 * @file Additive attention masks: 0 where a row may look, `hidden` where not. Integer loops, no tensors.
 */

/** Large enough to vanish in a softmax, small enough to stay finite when scores are added. */
const hidden = -1e30;

/**
 * `[S, S]`: row `s` sees columns `0 … s`.
 *
 * @returns float32, row-major
 */
export function causalMask(sequence: number): Float32Array {
  const mask = new Float32Array(sequence * sequence);
  for (let s = 0; s < sequence; s += 1) mask.fill(hidden, s * sequence + s + 1, (s + 1) * sequence);
  return mask;
}

/** What {@link cachedMask} is made from. */
export interface CachedMaskSizes {
  /** Sequences `B`. */
  readonly batch: number;
  /** New rows of each sequence `n`. */
  readonly rows: number;
  /** Key slots to cover `P`. */
  readonly slots: number;
}

/**
 * `[B, n, P]`: which cache slots each new row sees. See `cachedAttention` for the rule.
 *
 * @param lengths - int32 `[B]`: filled slots
 * @param positions - int32 `[B·n]`: last slot each row sees
 * @param tail - `[n, n]`, nonzero: row sees tail column; undefined: the causal rule
 * @returns float32, row-major
 */
export function cachedMask(
  sizes: CachedMaskSizes,
  lengths: Int32Array,
  positions: Int32Array,
  tail: ArrayLike<number> | undefined,
): Float32Array {
  const { batch, rows, slots } = sizes;
  const mask = new Float32Array(batch * rows * slots);
  for (let b = 0; b < batch; b += 1) {
    const length = lengths[b]!;
    const tailStart = length - rows;
    for (let i = 0; i < rows; i += 1) {
      const base = (b * rows + i) * slots;
      const last = positions[b * rows + i]!;
      for (let j = 0; j < slots; j += 1) {
        const inTail = tail !== undefined && j >= tailStart;
        const seen = j < length && (inTail ? tail[i * rows + j - tailStart] !== 0 : j <= last);
        if (!seen) mask[base + j] = hidden;
      }
    }
  }
  return mask;
}

/**
 * The last slot each new row sees by the causal rule: `lengths[b] − n + i`.
 *
 * @param lengths - int32 `[B]`: filled slots, the `n` new rows included
 * @returns int32 `[B·n]`
 */
export function tailPositions(lengths: Int32Array, rows: number): Int32Array {
  const positions = new Int32Array(lengths.length * rows);
  for (let b = 0; b < lengths.length; b += 1) {
    for (let i = 0; i < rows; i += 1) positions[b * rows + i] = lengths[b]! - rows + i;
  }
  return positions;
}

/**
 * The largest entry, 0 for an empty list.
 *
 * @param values - int32 `[B]`
 */
export function largest(values: Int32Array): number {
  let most = 0;
  for (let b = 0; b < values.length; b += 1) most = Math.max(most, values[b]!);
  return most;
}
