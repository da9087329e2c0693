/**
 * @file The best pair of each token, as the router ordered them.
 *
 * Letters: `T` tokens.
 */
import type { CapacityScratch } from './scratch.kernel.ts';

/** Int32Array `[T]`: `token·E + expert` of each token's first pair, -1 without one. Scratch. */
export function bestPairs(
  plan: { readonly tokenOffsets: Int32Array; readonly slot: Int32Array; readonly source: Int32Array },
  scratch: CapacityScratch,
): Int32Array {
  const tokens = plan.tokenOffsets.length - 1;
  const best = scratch.int32('bestPair', tokens);
  for (let t = 0; t < tokens; t += 1) {
    const first = plan.tokenOffsets[t]!;
    best[t] = first === plan.tokenOffsets[t + 1] ? -1 : plan.source[plan.slot[first]!]!;
  }
  return best;
}
