/**
 * @file Sampling of SparseMixer on the host: survivors of the jitter band, draws among them, and where gradients are taken.
 *
 * Letters: `T` tokens, `E` experts, `K` picks.
 */
import type { Rng } from '@moebius/core';

/** What is sampled from. */
export interface SparseMixerProblem {
  /** `[T, E]`, finite. */
  readonly logits: ArrayLike<number>;
  /** `T`. */
  readonly tokens: number;
  /** `E`. */
  readonly experts: number;
  /** `K`. */
  readonly topK: number;
  /** Half of the band's width ε, relative. */
  readonly jitter: number;
  /** Where the gradient of a pick that is not the best is taken. */
  readonly estimator: 'mid-point' | 'heun' | 'plain';
  /** Absent: the best survivor is taken. */
  readonly rng?: Rng;
}

/** What was sampled. */
export interface SparseMixerSample {
  /** Int32Array `[T, K]`. */
  readonly ids: Int32Array;
  /** Float32Array `[T, K]`: multiplies the probability in the forward pass. */
  readonly factors: Float32Array;
  /** One Float32Array `[T, E]` a pick: 0 for survivors, else a number that no softmax survives. */
  readonly masks: readonly Float32Array[];
}

/** A logit that has probability 0 beside any finite one. */
const OUT = -1e30;

/**
 * Picks K experts of every token, one after another, each among the survivors without those before.
 *
 * @param problem - logits and rules
 */
export function sampleSparseMixer(problem: SparseMixerProblem): SparseMixerSample {
  const { logits, tokens, experts, topK, rng } = problem;
  const ids = new Int32Array(tokens * topK);
  const factors = new Float32Array(tokens * topK);
  const masks = Array.from({ length: topK }, () => new Float32Array(tokens * experts));
  const row = new Float64Array(experts);
  for (let t = 0; t < tokens; t += 1) {
    for (let e = 0; e < experts; e += 1) row[e] = logits[t * experts + e]!;
    for (let pick = 0; pick < topK; pick += 1) {
      const best = bestOf(row);
      const mask = masks[pick]!.subarray(t * experts, (t + 1) * experts);
      maskOutside(row, best, { mask, jitter: problem.jitter });
      const chosen = rng === undefined ? best : draw(row, mask, rng);
      ids[t * topK + pick] = chosen;
      factors[t * topK + pick] = rng === undefined ? 1 : factorOf(chosen === best, problem.estimator, rng);
      row[chosen] = -Infinity;
    }
  }
  return { ids, factors, masks };
}

function bestOf(row: Float64Array): number {
  let best = 0;
  for (let e = 1; e < row.length; e += 1) if (row[e]! > row[best]!) best = e;
  return best;
}

/** Experts further from the best than 2ε of the larger of the two sizes are out, and so are those picked before. */
function maskOutside(
  row: Float64Array,
  best: number,
  { mask, jitter }: { readonly mask: Float32Array; readonly jitter: number },
): void {
  const top = row[best]!;
  for (let e = 0; e < row.length; e += 1) {
    const value = row[e]!;
    const isOut = value === -Infinity || (top - value) / Math.max(Math.abs(value), top) > 2 * jitter;
    mask[e] = isOut ? OUT : 0;
  }
}

/** A draw by the softmax of the survivors. */
function draw(row: Float64Array, mask: Float32Array, rng: Rng): number {
  let top = -Infinity;
  for (let e = 0; e < row.length; e += 1) if (mask[e] === 0) top = Math.max(top, row[e]!);
  let total = 0;
  for (let e = 0; e < row.length; e += 1) if (mask[e] === 0) total += Math.exp(row[e]! - top);
  let left = rng.uniform() * total;
  let last = 0;
  for (let e = 0; e < row.length; e += 1) {
    if (mask[e] !== 0) continue;
    last = e;
    left -= Math.exp(row[e]! - top);
    if (left < 0) return e;
  }
  return last;
}

function factorOf(isBest: boolean, estimator: SparseMixerProblem['estimator'], rng: Rng): number {
  const coin = rng.uniform();
  if (isBest || estimator === 'plain') return 1;
  if (estimator === 'mid-point') return 0.5;
  return coin < 0.25 ? 1 : 1 / 3;
}
