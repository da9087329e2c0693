/**
 * @file Sinkhorn's iteration: scaling rows and columns of `exp(z / τ)` in turn until every token gives 1 and every expert gets `T / E`.
 *
 * Letters: `T` tokens, `E` experts.
 */

/** When the iteration ends. */
export interface SinkhornOptions {
  /** `E`. */
  readonly experts: number;
  /** Divides the logits: small values come close to the best balanced choice. */
  readonly temperature: number;
  /** Columns may be this far from `T / E`, relatively. */
  readonly tolerance: number;
  /** At most. */
  readonly iterations: number;
}

/**
 * The transport of `T` tokens to `E` experts with equal loads that is nearest to `exp(z / τ)`.
 *
 * @param logits - `[T, E]`, finite; only read
 * @param options - temperature and when to end
 * @returns Float64Array `[T, E]`: rows sum to 1 exactly up to rounding, columns to `T / E` within the tolerance
 */
export function sinkhorn(logits: ArrayLike<number>, options: SinkhornOptions): Float64Array {
  const { experts, temperature, tolerance, iterations } = options;
  const tokens = logits.length / experts;
  const plan = new Float64Array(logits.length);
  for (let t = 0; t < tokens; t += 1) {
    let best = -Infinity;
    for (let e = 0; e < experts; e += 1) best = Math.max(best, logits[t * experts + e]!);
    for (let e = 0; e < experts; e += 1)
      plan[t * experts + e] = Math.exp((logits[t * experts + e]! - best) / temperature);
  }
  for (let round = 0; round < iterations; round += 1) {
    const excess = scaleColumns(plan, tokens, experts);
    scaleRows(plan, experts);
    if (round > 0 && excess < tolerance) break;
  }
  return plan;
}

/** Brings columns to `T / E`; returns the largest relative difference that it found. */
function scaleColumns(plan: Float64Array, tokens: number, experts: number): number {
  const share = tokens / experts;
  let worst = 0;
  for (let e = 0; e < experts; e += 1) {
    let sum = 0;
    for (let i = e; i < plan.length; i += experts) sum += plan[i]!;
    if (sum === 0) continue;
    worst = Math.max(worst, Math.abs(sum / share - 1));
    for (let i = e; i < plan.length; i += experts) plan[i]! *= share / sum;
  }
  return worst;
}

function scaleRows(plan: Float64Array, experts: number): void {
  for (let from = 0; from < plan.length; from += experts) {
    let sum = 0;
    for (let e = 0; e < experts; e += 1) sum += plan[from + e]!;
    if (sum > 0) for (let e = 0; e < experts; e += 1) plan[from + e]! /= sum;
  }
}
