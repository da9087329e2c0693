/**
 * @file Row numbers of the native key/value store. Integers only.
 */

/**
 * Rows of `[B·P', Y]` that `n` new rows per sequence go to: `b·P' + starts[b] + i`.
 *
 * @param starts - int32 `[B]`
 * @returns int32 `[B·n]`
 */
export function rowIndices(starts: Int32Array, rows: number, slots: number): Int32Array {
  const index = new Int32Array(starts.length * rows);
  for (let b = 0; b < starts.length; b += 1) {
    for (let i = 0; i < rows; i += 1) index[b * rows + i] = b * slots + starts[b]! + i;
  }
  return index;
}
