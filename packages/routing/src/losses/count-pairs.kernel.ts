/**
 * @file Counting for balance losses: tokens under a mask, and pairs, first choices or device visits of each sequence.
 *
 * A batch is counted as one sequence of all its tokens.
 *
 * Letters: `T` tokens, `E` experts, `B` sequences, `P` devices.
 */
import type { DispatchPlan } from '../dispatch-plan.ts';

/** Tokens that count. */
export function countTokens(tokens: number, mask: Uint8Array | undefined): number {
  if (mask === undefined) return tokens;
  let count = 0;
  for (let t = 0; t < tokens; t += 1) if (mask[t] !== 0) count += 1;
  return count;
}

/** Tokens that count in each sequence, `[B]`. */
export function tokensOfSequences(
  tokens: number,
  sequenceTokens: number,
  mask: Uint8Array | undefined,
): Int32Array {
  const counts_B = new Int32Array(tokens / sequenceTokens);
  for (let t = 0; t < tokens; t += 1) {
    if (mask === undefined || mask[t] !== 0) counts_B[Math.floor(t / sequenceTokens)]! += 1;
  }
  return counts_B;
}

/** How a plan is counted in each sequence: `[B, X]`, flat. */
export type CountPairs = (plan: DispatchPlan, sequenceTokens: number) => Float64Array;

/** Pairs of each expert, `[B, E]`. */
export function countPairs(plan: DispatchPlan, sequenceTokens: number): Float64Array {
  const { tokens, experts, source } = plan;
  const counts_BE = new Float64Array((tokens / sequenceTokens) * experts);
  for (let n = 0; n < source.length; n += 1) {
    const t = Math.floor(source[n]! / experts);
    counts_BE[Math.floor(t / sequenceTokens) * experts + (source[n]! - t * experts)]! += 1;
  }
  return counts_BE;
}

/** Tokens whose best choice is each expert, `[B, E]`. */
export function countFirstChoices(plan: DispatchPlan, sequenceTokens: number): Float64Array {
  const { tokens, experts, source, slot, tokenOffsets } = plan;
  const counts_BE = new Float64Array((tokens / sequenceTokens) * experts);
  for (let t = 0; t < tokens; t += 1) {
    const first = tokenOffsets[t]!;
    if (first === tokenOffsets[t + 1]) continue;
    counts_BE[Math.floor(t / sequenceTokens) * experts + (source[slot[first]!]! % experts)]! += 1;
  }
  return counts_BE;
}

/** Tokens that are sent to each device, counted once however many of its experts they visit, `[B, P]`. */
export function countVisits(
  plan: DispatchPlan,
  sequenceTokens: number,
  hosts: { readonly devices: number; readonly hostOf: Int32Array },
): Float64Array {
  const { tokens, experts, source, slot, tokenOffsets } = plan;
  const { devices, hostOf } = hosts;
  const counts_BP = new Float64Array((tokens / sequenceTokens) * devices);
  const last_P = new Int32Array(devices).fill(-1);
  for (let t = 0; t < tokens; t += 1) {
    for (let i = tokenOffsets[t]!; i < tokenOffsets[t + 1]!; i += 1) {
      const device = hostOf[source[slot[i]!]! % experts]!;
      if (last_P[device] === t) continue;
      last_P[device] = t;
      counts_BP[Math.floor(t / sequenceTokens) * devices + device]! += 1;
    }
  }
  return counts_BP;
}
