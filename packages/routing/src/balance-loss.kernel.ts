/**
 * @file Counting for balance losses: tokens under a mask, and assignments of each sequence.
 *
 * Letters: `T` tokens, `E` experts, `B` sequences.
 */

/** Tokens that count. */
export function countTokens(tokens: number, mask: Uint8Array | undefined): number {
  if (mask === undefined) return tokens;
  let count = 0;
  for (let t = 0; t < tokens; t += 1) if (mask[t] !== 0) count += 1;
  return count;
}

/**
 * Pairs of each expert in each sequence.
 *
 * @param plan - source `[N]`, tokens and experts of a plan
 * @param sequenceTokens - tokens of a sequence; divides the tokens
 * @param mask - `[T]`, 0 leaves a token out
 * @returns fresh float32 `[B, E]` counts and `[B]` counted tokens
 */
export function countAssignments(
  plan: { readonly tokens: number; readonly experts: number; readonly source: Int32Array },
  sequenceTokens: number,
  mask: Uint8Array | undefined,
): { assignments_BE: Float32Array; tokens_B: Int32Array } {
  const { tokens, experts, source } = plan;
  const sequences = tokens / sequenceTokens;
  const assignments_BE = new Float32Array(sequences * experts);
  const tokens_B = new Int32Array(sequences);
  for (let t = 0; t < tokens; t += 1) {
    if (mask === undefined || mask[t] !== 0) tokens_B[Math.floor(t / sequenceTokens)]! += 1;
  }
  for (let n = 0; n < source.length; n += 1) {
    const t = Math.floor(source[n]! / experts);
    const e = source[n]! - t * experts;
    assignments_BE[Math.floor(t / sequenceTokens) * experts + e]! += 1;
  }
  return { assignments_BE, tokens_B };
}
