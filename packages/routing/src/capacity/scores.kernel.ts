/**
 * @file Loops over scores on the host: the check that they can be ranked, and random numbers in their place.
 *
 * Letters: `T` tokens, `E` experts.
 */

/** First unmasked token whose row holds a NaN, +∞, or nothing but -∞; -1 when there is none. */
export function firstBadToken(
  scores: ArrayLike<number>,
  experts: number,
  mask: Uint8Array | undefined,
): number {
  const tokens = experts === 0 ? 0 : scores.length / experts;
  for (let t = 0; t < tokens; t += 1) {
    if (mask !== undefined && mask[t] === 0) continue;
    const from = t * experts;
    let sum = 0;
    for (let e = from; e < from + experts; e += 1) sum += scores[e]!;
    if (!Number.isFinite(sum) && !rowIsUsable(scores, from, experts)) return t;
  }
  return -1;
}

function rowIsUsable(scores: ArrayLike<number>, from: number, experts: number): boolean {
  let finite = 0;
  for (let e = from; e < from + experts; e += 1) {
    const value = scores[e]!;
    if (Number.isNaN(value) || value === Infinity) return false;
    if (value !== -Infinity) finite += 1;
  }
  return finite > 0;
}

/**
 * Moves rows that were drawn for unmasked tokens only to their places, from the last to the first: a masked token takes no draw, so padding does
 * not move the numbers of the others.
 *
 * @param drawn - `[T, E]`, the first rows drawn; read and written
 * @param mask - `[T]`
 * @param experts - E
 */
export function spreadRowsInto(drawn: Float32Array, mask: Uint8Array, experts: number): void {
  let from = 0;
  for (let t = 0; t < mask.length; t += 1) if (mask[t] !== 0) from += 1;
  for (let t = mask.length - 1; t >= 0; t -= 1) {
    if (mask[t] === 0) continue;
    from -= 1;
    if (from !== t) drawn.copyWithin(t * experts, from * experts, (from + 1) * experts);
  }
}

/** First token whose scores over its pairs sum below 0, -1 when none does: shares of such a sum have no meaning. */
export function firstNegativeToken(
  scores: ArrayLike<number>,
  plan: { readonly tokenOffsets: Int32Array; readonly slot: Int32Array; readonly source: Int32Array },
): number {
  const { tokenOffsets, slot, source } = plan;
  for (let t = 0; t + 1 < tokenOffsets.length; t += 1) {
    let sum = 0;
    for (let i = tokenOffsets[t]!; i < tokenOffsets[t + 1]!; i += 1) sum += scores[source[slot[i]!]!]!;
    if (sum < 0) return t;
  }
  return -1;
}
