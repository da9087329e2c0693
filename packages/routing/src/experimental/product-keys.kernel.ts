/**
 * @file The best of n² sums of two lists without forming them: product keys (Lample et al. 2019, arXiv 1907.05242, §3.1).
 */

/** Indices of the `k` largest, largest first, ties to the lowest index; insertion into a short list. */
function bestOf(values: ArrayLike<number>, from: number, length: number, k: number): Int32Array {
  const best = new Int32Array(k);
  let filled = 0;
  for (let i = 0; i < length; i += 1) {
    const value = values[from + i]!;
    if (filled === k && !(value > values[from + best[k - 1]!]!)) continue;
    let at = filled < k ? filled : k - 1;
    while (at > 0 && value > values[from + best[at - 1]!]!) {
      best[at] = best[at - 1]!;
      at -= 1;
    }
    best[at] = i;
    if (filled < k) filled += 1;
  }
  return best;
}

/**
 * For every row the `k` best of the n² sums `left[i] + right[j]`: experts `i·n + j`, best first, ties to the lowest expert.
 *
 * The k best sums can only use the k best of either list, so `k²` sums are compared instead of `n²`. Sums are float64: exact, ties
 * included, for scores whose sizes are within 2²⁸ of each other.
 *
 * @param scores - `[rows, 2n]`: n left scores, then n right ones
 * @param sizes - rows, n and `k ≤ n`
 * @returns Int32Array `[rows, k]`
 */
export function productTopK(
  scores: ArrayLike<number>,
  sizes: { readonly rows: number; readonly keys: number; readonly topK: number },
): Int32Array {
  const { rows, keys, topK } = sizes;
  const ids = new Int32Array(rows * topK);
  const candidates = new Int32Array(topK * topK);
  const sums = new Float64Array(topK * topK);
  for (let row = 0; row < rows; row += 1) {
    const from = row * 2 * keys;
    const left = bestOf(scores, from, keys, topK).sort();
    const right = bestOf(scores, from + keys, keys, topK).sort();
    for (let a = 0; a < topK; a += 1) {
      for (let b = 0; b < topK; b += 1) {
        candidates[a * topK + b] = left[a]! * keys + right[b]!;
        sums[a * topK + b] = scores[from + left[a]!]! + scores[from + keys + right[b]!]!;
      }
    }
    const best = bestOf(sums, 0, topK * topK, topK);
    for (let i = 0; i < topK; i += 1) ids[row * topK + i] = candidates[best[i]!]!;
  }
  return ids;
}
