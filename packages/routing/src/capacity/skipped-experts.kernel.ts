/**
 * @file Expert Drop: which experts a pass skips. The baseline of Capacity-Aware Inference (2503.05066), after the authors' code.
 */

/**
 * The `count` experts with the lowest load; of equal loads the higher expert is skipped.
 *
 * @param load - Int32Array `[E]`, pairs of each expert
 * @param count - how many
 * @returns Uint8Array `[E]`, 1 for a skipped expert; fresh
 */
export function skippedExperts(load: Int32Array, count: number): Uint8Array {
  const order = Int32Array.from(load, (_, e) => e).sort((a, b) => load[a]! - load[b]! || b - a);
  const skipped = new Uint8Array(load.length);
  for (let i = 0; i < count; i += 1) skipped[order[i]!] = 1;
  return skipped;
}
