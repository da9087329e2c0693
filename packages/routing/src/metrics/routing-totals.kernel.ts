/**
 * @file Loops of the routing metrics over plans and rows of probabilities.
 *
 * Letters: `T` tokens, `E` experts, `N` pairs.
 */
import type { DispatchPlan } from '../dispatch-plan.ts';

/** Sums over rows that count. */
export interface RowSums {
  /** Rows. */
  readonly rows: number;
  /** `[E]` */
  readonly importance: Float64Array;
  /** Σ of entropies, nats. */
  readonly entropy: number;
  /** Σ of largest entries. */
  readonly confidence: number;
}

/**
 * Sums of normalised rows.
 *
 * @param scores - `[T, E]`, not negative; rows are divided by their sum, rows of zeros are left out
 * @param experts - E
 * @param mask - `[T]`, 0 leaves a row out
 * @returns fresh sums; `rows` -1 - t when row t has a negative or non-finite entry
 */
export function sumRows(scores: ArrayLike<number>, experts: number, mask: Uint8Array | undefined): RowSums {
  const importance = new Float64Array(experts);
  const tokens = scores.length / experts;
  let [rows, entropy, confidence] = [0, 0, 0];
  for (let t = 0; t < tokens; t += 1) {
    if (mask !== undefined && mask[t] === 0) continue;
    let total = 0;
    for (let e = 0; e < experts; e += 1) {
      const score = scores[t * experts + e]!;
      if (!(score >= 0 && score < Infinity)) return { rows: -1 - t, importance, entropy, confidence };
      total += score;
    }
    if (total === 0) continue;
    let largest = 0;
    for (let e = 0; e < experts; e += 1) {
      const p = scores[t * experts + e]! / total;
      importance[e]! += p;
      if (p > 0) entropy -= p * Math.log(p);
      if (p > largest) largest = p;
    }
    confidence += largest;
    rows += 1;
  }
  return { rows, importance, entropy, confidence };
}

/** How often two experts have the same token, Float64Array `[E, E]`; the diagonal is the load. */
export function countTogether(plan: DispatchPlan): Float64Array {
  const { tokens, experts, tokenOffsets, slot, source } = plan;
  const together = new Float64Array(experts * experts);
  for (let t = 0; t < tokens; t += 1) {
    for (let i = tokenOffsets[t]!; i < tokenOffsets[t + 1]!; i += 1) {
      const e = source[slot[i]!]! % experts;
      for (let j = tokenOffsets[t]!; j < tokenOffsets[t + 1]!; j += 1) {
        together[e * experts + (source[slot[j]!]! % experts)]! += 1;
      }
    }
  }
  return together;
}

/** Pairs of each expert that were in the dropless plan, Int32Array `[E]`. */
export function countPrimary(plan: DispatchPlan): Int32Array {
  const { experts, offsets, primary } = plan;
  const kept = new Int32Array(experts);
  for (let e = 0; e < experts; e += 1) {
    for (let n = offsets[e]!; n < offsets[e + 1]!; n += 1)
      if (primary === undefined || primary[n] !== 0) kept[e]! += 1;
  }
  return kept;
}

/**
 * From the best expert of a token in one layer to that in another, Float64Array `[E, F]`; tokens without a pair in either are left out.
 *
 * @param from - a plan of E experts
 * @param to - a plan of F experts over the same tokens
 */
export function countTransitions(from: DispatchPlan, to: DispatchPlan): Float64Array {
  const counts = new Float64Array(from.experts * to.experts);
  const best = (plan: DispatchPlan, t: number): number => {
    const at = plan.tokenOffsets[t]!;
    return at === plan.tokenOffsets[t + 1]! ? -1 : plan.source[plan.slot[at]!]! % plan.experts;
  };
  const tokens = Math.min(from.tokens, to.tokens);
  for (let t = 0; t < tokens; t += 1) {
    const [e, f] = [best(from, t), best(to, t)];
    if (e >= 0 && f >= 0) counts[e * to.experts + f]! += 1;
  }
  return counts;
}
