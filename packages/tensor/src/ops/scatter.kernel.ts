/**
 * @file Host loops that add rows or numbers into places. No tensors.
 */

/**
 * `out[ids[t]] += rows[t]` for every row.
 *
 * @param rows - float32 `[T, D]`, row-major
 * @param ids - int32 `[T]`; an id outside `[0, count)` is skipped
 * @param count - rows of the result `V`
 * @param width - `D`
 * @returns float32 `[V, D]`
 */
export function addRowsByIndex(
  rows: ArrayLike<number>,
  ids: ArrayLike<number>,
  count: number,
  width: number,
): Float32Array {
  const out = new Float32Array(count * width);
  for (let t = 0; t < ids.length; t += 1) {
    const id = ids[t]!;
    if (id < 0 || id >= count) continue;
    const to = id * width;
    const from = t * width;
    for (let d = 0; d < width; d += 1) out[to + d]! += rows[from + d]!;
  }
  return out;
}

/**
 * `out[place[n]] += values[n]`.
 *
 * @param values - float32 `[N]`
 * @param place - int32 `[N]`, in `[0, size)`
 * @returns float32 `[size]`
 */
export function addByIndex(values: ArrayLike<number>, place: ArrayLike<number>, size: number): Float32Array {
  const out = new Float32Array(size);
  for (let n = 0; n < place.length; n += 1) out[place[n]!]! += values[n]!;
  return out;
}
