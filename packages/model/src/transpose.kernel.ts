/** @file Turning a matrix on the host, at the file boundary. */

/**
 * `[rows, columns]` as `[columns, rows]`, in blocks that fit a cache.
 *
 * @param values - row-major, only read
 * @returns fresh, row-major
 */
export function transposeMatrix(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  const block = 32;
  for (let top = 0; top < rows; top += block) {
    const bottom = Math.min(top + block, rows);
    for (let left = 0; left < columns; left += block) {
      const right = Math.min(left + block, columns);
      for (let row = top; row < bottom; row += 1) {
        for (let column = left; column < right; column += 1) {
          out[column * rows + row] = values[row * columns + column]!;
        }
      }
    }
  }
  return out;
}

/** The index of the first NaN or infinity, or -1. */
export function firstNotFinite(values: Float32Array): number {
  for (let at = 0; at < values.length; at += 1) if (!Number.isFinite(values[at]!)) return at;
  return -1;
}
