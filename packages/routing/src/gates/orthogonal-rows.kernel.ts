/** @file Orthogonal first values: Gram-Schmidt on normal draws. */

/**
 * Rows of length `gain` that are orthogonal; columns, where there are more rows than columns.
 *
 * @param normal - draws standard normal deviates
 * @returns Float32Array `[rows, columns]`
 */
export function orthogonalRows(
  normal: () => number,
  { rows, columns, gain }: { readonly rows: number; readonly columns: number; readonly gain: number },
): Float32Array {
  const isWide = rows <= columns;
  const [count, length] = isWide ? [rows, columns] : [columns, rows];
  const vectors: Float64Array[] = [];
  while (vectors.length < count) {
    const vector = Float64Array.from({ length }, normal);
    // The second pass takes away what rounding left of the first.
    for (let pass = 0; pass < 2; pass += 1) for (const other of vectors) removeInto(vector, other);
    const norm = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
    vectors.push(vector.map((value) => value / norm));
  }
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return gain * (isWide ? vectors[row]![column]! : vectors[column]![row]!);
  });
}

function removeInto(vector: Float64Array, other: Float64Array): void {
  let along = 0;
  for (let i = 0; i < vector.length; i += 1) along += vector[i]! * other[i]!;
  for (let i = 0; i < vector.length; i += 1) vector[i]! -= along * other[i]!;
}
