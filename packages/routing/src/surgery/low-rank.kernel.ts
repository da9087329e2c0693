/** @file The best approximation of a matrix by one of lower rank, in double precision. */

/**
 * The rank-r matrix nearest to `data` (Eckart and Young): what its r largest singular values carry. The singular vectors of
 * the short side come from Jacobi rotations of the Gram matrix: O(30·n³) for n the shorter side, so a matter of seconds
 * for n = 512.
 *
 * @param data - Float32Array `[rows, columns]`
 * @param rank - at least 1; the shorter side or more gives a copy
 * @returns a fresh Float32Array `[rows, columns]`
 */
export function lowRank(
  data: Float32Array,
  { rows, columns, rank }: { readonly rows: number; readonly columns: number; readonly rank: number },
): Float32Array {
  if (rank >= Math.min(rows, columns)) return data.slice();
  const isTall = rows >= columns;
  const n = isTall ? columns : rows;
  const gram = gramOf(data, rows, columns, isTall);
  const vectors = eigenvectors(gram, n);
  const order = Int32Array.from({ length: n }, (_, i) => i).sort(
    (a, b) => gram[b * n + b]! - gram[a * n + a]! || a - b,
  );
  const kept = order.subarray(0, rank);
  const projector = new Float64Array(n * n);
  for (const v of kept) {
    for (let i = 0; i < n; i += 1) {
      for (let j = 0; j < n; j += 1)
        projector[i * n + j] = projector[i * n + j]! + vectors[i * n + v]! * vectors[j * n + v]!;
    }
  }
  const result = new Float32Array(data.length);
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c < columns; c += 1) {
      let sum = 0;
      for (let i = 0; i < n; i += 1) {
        sum += isTall
          ? data[r * columns + i]! * projector[i * n + c]!
          : projector[r * n + i]! * data[i * columns + c]!;
      }
      result[r * columns + c] = sum;
    }
  }
  return result;
}

/** AᵀA of a tall matrix, AAᵀ of a wide one. */
function gramOf(data: Float32Array, rows: number, columns: number, isTall: boolean): Float64Array {
  const n = isTall ? columns : rows;
  const depth = isTall ? rows : columns;
  const gram = new Float64Array(n * n);
  for (let i = 0; i < n; i += 1) {
    for (let j = i; j < n; j += 1) {
      let sum = 0;
      for (let d = 0; d < depth; d += 1) {
        sum += isTall
          ? data[d * columns + i]! * data[d * columns + j]!
          : data[i * columns + d]! * data[j * columns + d]!;
      }
      gram[i * n + j] = sum;
      gram[j * n + i] = sum;
    }
  }
  return gram;
}

/** Eigenvectors of a symmetric matrix as columns, by cyclic Jacobi rotations; the eigenvalues are left on its diagonal. */
function eigenvectors(matrix: Float64Array, n: number): Float64Array {
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i += 1) vectors[i * n + i] = 1;
  let total = 0;
  for (let i = 0; i < matrix.length; i += 1) total += matrix[i]! * matrix[i]!;
  for (let sweep = 0; sweep < 60; sweep += 1) {
    let off = 0;
    for (let p = 0; p < n; p += 1) for (let q = p + 1; q < n; q += 1) off += matrix[p * n + q]! ** 2;
    if (off <= 1e-30 * total) break;
    for (let p = 0; p < n; p += 1) for (let q = p + 1; q < n; q += 1) rotate(matrix, vectors, n, p, q);
  }
  return vectors;
}

/** Turns axes p and q so that their entry becomes 0. */
function rotate(matrix: Float64Array, vectors: Float64Array, n: number, p: number, q: number): void {
  const entry = matrix[p * n + q]!;
  if (entry === 0) return;
  const theta = (matrix[q * n + q]! - matrix[p * n + p]!) / (2 * entry);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  for (let k = 0; k < n; k += 1) {
    const [a, b] = [matrix[k * n + p]!, matrix[k * n + q]!];
    matrix[k * n + p] = c * a - s * b;
    matrix[k * n + q] = s * a + c * b;
    const [u, v] = [vectors[k * n + p]!, vectors[k * n + q]!];
    vectors[k * n + p] = c * u - s * v;
    vectors[k * n + q] = s * u + c * v;
  }
  for (let k = 0; k < n; k += 1) {
    const [a, b] = [matrix[p * n + k]!, matrix[q * n + k]!];
    matrix[p * n + k] = c * a - s * b;
    matrix[q * n + k] = s * a + c * b;
  }
}
