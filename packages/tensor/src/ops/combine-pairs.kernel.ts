/**
 * @file Integer loops over a plan's token lists. No tensors.
 */

/**
 * The number of pairs every token has, or 0 when it differs between tokens (or is 0).
 *
 * @param tokenOffsets - int32 `[T+1]`
 */
export function uniformPairs(tokenOffsets: Int32Array): number {
  const tokens = tokenOffsets.length - 1;
  const each = tokens > 0 ? tokenOffsets[1]! - tokenOffsets[0]! : 0;
  for (let t = 1; t < tokens; t += 1) if (tokenOffsets[t + 1]! - tokenOffsets[t]! !== each) return 0;
  return each;
}

/** Every token's `round`-th pair. */
export interface Round {
  /** int32 `[T]`: the pair, 0 where there is none. */
  readonly index: Int32Array;
  /** float32 `[T]`: 1 where there is one, else 0. */
  readonly present: Float32Array;
  /** How many tokens have one. */
  readonly count: number;
}

/**
 * Every token's `round`-th pair.
 *
 * @param tokenOffsets - int32 `[T+1]`
 * @param slot - int32 `[N]`
 */
export function pairsInRound(tokenOffsets: Int32Array, slot: Int32Array, round: number): Round {
  const tokens = tokenOffsets.length - 1;
  const index = new Int32Array(tokens);
  const present = new Float32Array(tokens);
  let count = 0;
  for (let t = 0; t < tokens; t += 1) {
    const place = tokenOffsets[t]! + round;
    if (place >= tokenOffsets[t + 1]!) continue;
    index[t] = slot[place]!;
    present[t] = 1;
    count += 1;
  }
  return { index, present, count };
}
