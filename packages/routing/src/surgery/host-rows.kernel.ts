/** @file Loops over host arrays for surgery: taking slices along an axis, sums, noise. Nothing here knows what an expert is. */

/** A tensor seen as `[outer, length, inner]` around one axis. */
export interface AxisView {
  /** Product of the axes before. */
  readonly outer: number;
  /** The axis. */
  readonly length: number;
  /** Product of the axes after. */
  readonly inner: number;
}

/**
 * Slices along an axis, in the order asked for.
 *
 * @param data - Float32Array `[outer, length, inner]`
 * @param view - how it is seen
 * @param ids - which slices; one below 0 gives zeros
 * @returns a fresh Float32Array `[outer, ids.length, inner]`
 */
export function takeSlices(
  data: Float32Array,
  { outer, length, inner }: AxisView,
  ids: ArrayLike<number>,
): Float32Array {
  const taken = new Float32Array(outer * ids.length * inner);
  for (let o = 0; o < outer; o += 1) {
    for (let i = 0; i < ids.length; i += 1) {
      const id = ids[i]!;
      if (id < 0) continue;
      const from = (o * length + id) * inner;
      taken.set(data.subarray(from, from + inner), (o * ids.length + i) * inner);
    }
  }
  return taken;
}

/** Writes slices along an axis into a tensor: the opposite of {@link takeSlices}. */
export function putSlicesInto(
  into: Float32Array,
  { outer, length, inner }: AxisView,
  ids: ArrayLike<number>,
  slices: Float32Array,
): void {
  for (let o = 0; o < outer; o += 1) {
    for (let i = 0; i < ids.length; i += 1) {
      const from = (o * ids.length + i) * inner;
      into.set(slices.subarray(from, from + inner), (o * length + ids[i]!) * inner);
    }
  }
}

/** A fresh array, every number multiplied. A factor of 1 copies. */
export function scaled(data: Float32Array, factor: number): Float32Array {
  const result = data.slice();
  if (factor === 1) return result;
  for (let i = 0; i < result.length; i += 1) result[i] = result[i]! * factor;
  return result;
}

/** Root of the mean square, in double precision; 0 of nothing. */
export function rootMeanSquare(data: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < data.length; i += 1) sum += data[i]! * data[i]!;
  return data.length === 0 ? 0 : Math.sqrt(sum / data.length);
}

/** A fresh array: `data + noise · factor`. */
export function plusScaled(data: Float32Array, noise: Float32Array, factor: number): Float32Array {
  const result = data.slice();
  for (let i = 0; i < result.length; i += 1) result[i] = result[i]! + noise[i]! * factor;
  return result;
}

/** The sum of arrays of one length, each times its weight, in double precision, rounded once. */
export function weightedSum(arrays: readonly Float32Array[], weights: ArrayLike<number>): Float32Array {
  const result = new Float32Array(arrays[0]?.length ?? 0);
  for (let i = 0; i < result.length; i += 1) {
    let sum = 0;
    for (let a = 0; a < arrays.length; a += 1) sum += arrays[a]![i]! * weights[a]!;
    result[i] = sum;
  }
  return result;
}

/** The mean of every column of `[rows, columns]`, in double precision. */
export function meanOfRows(data: Float32Array, rows: number, columns: number): Float32Array {
  const sums = new Float64Array(columns);
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c < columns; c += 1) sums[c] = sums[c]! + data[r * columns + c]!;
  }
  return Float32Array.from(sums, (sum) => sum / rows);
}
