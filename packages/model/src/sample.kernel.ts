/**
 * @file Choosing the next token from a row of logits on the host.
 *
 * Order of the filters, as in Hugging Face's generate: temperature, top-k, top-p, min-p (penalties come before, see
 * penalty.kernel.ts). Ties: the lowest index first; Hugging Face's top-k keeps all that tie with the k-th. The
 * nucleus of top-p is the smallest set of most probable tokens whose probabilities reach p; tokens below
 * (1 - p) / V can never be in it (all of them together hold less than 1 - p), so only the rest is sorted. Min-p keeps
 * what is at least that share as probable as the most probable token. The most probable token always stays.
 */

/** How a token is drawn; see {@link sampleToken}. */
export interface SampleFilter {
  /** Divides the logits, above 0. */
  readonly temperature: number;
  /** Only the k most probable tokens; 0 for all. */
  readonly topK: number;
  /** Only the nucleus of this probability; 1 for all. */
  readonly topP: number;
  /** Only tokens at least this share as probable as the most probable one; 0 for all. */
  readonly minP: number;
}

/** The index of the largest value, ties: the lowest; -1 when a value is NaN or the largest is not finite. */
export function finiteArgmaxOf(logits: Float32Array): number {
  let best = -1;
  let peak = -Infinity;
  for (let v = 0; v < logits.length; v += 1) {
    const logit = logits[v]!;
    if (logit > peak) {
      peak = logit;
      best = v;
    } else if (logit !== logit) return -1;
  }
  return peak < Infinity ? best : -1;
}

/** The index of the largest value; ties: the lowest. */
export function argmaxOf(logits: Float32Array): number {
  let best = 0;
  for (let v = 1; v < logits.length; v += 1) if (logits[v]! > logits[best]!) best = v;
  return best;
}

/** `ln softmax(logits)[token]`, in float64. */
export function logProbability(logits: Float32Array, token: number): number {
  const peak = logits[argmaxOf(logits)]!;
  let sum = 0;
  for (let v = 0; v < logits.length; v += 1) sum += Math.exp(logits[v]! - peak);
  return logits[token]! - peak - Math.log(sum);
}

/**
 * Draws a token: the inverse of the filtered distribution's cumulative sum at `uniform`.
 *
 * @param logits - `[V]`, finite
 * @param filter - temperature, top-k, top-p, min-p
 * @param uniform - in [0, 1)
 */
export function sampleToken(logits: Float32Array, filter: SampleFilter, uniform: number): number {
  const { ids, weights } = filteredTokens(logits, filter);
  let total = 0;
  for (const weight of weights) total += weight;
  let left = uniform * total;
  for (let at = 0; at < ids.length; at += 1) {
    left -= weights[at]!;
    if (left < 0) return ids[at]!;
  }
  return ids[ids.length - 1]!;
}

/**
 * The tokens that may be drawn, most probable first when filtered, with unnormalised probabilities.
 *
 * @param logits - `[V]`, finite
 */
export function filteredTokens(
  logits: Float32Array,
  filter: SampleFilter,
): { ids: Int32Array; weights: Float64Array } {
  const peak = logits[argmaxOf(logits)]!;
  const weights = new Float64Array(logits.length);
  for (let v = 0; v < logits.length; v += 1) weights[v] = Math.exp((logits[v]! - peak) / filter.temperature);
  let ids = Int32Array.from(logits.keys());
  if (filter.topK > 0 && filter.topK < logits.length) {
    const candidates = atLeast(ids, weights, kthLargest(weights, filter.topK));
    ids = sortByLogit(candidates, logits).subarray(0, filter.topK);
  }
  if (filter.topP < 1) {
    let total = 0;
    for (const id of ids) total += weights[id]!;
    const candidates = atLeast(ids, weights, ((1 - filter.topP) * total) / logits.length);
    ids = nucleus(sortByLogit(candidates, logits), weights, filter.topP * total);
  }
  // The most probable weight is exp(0) = 1, so min-p is a bound on the unnormalised weights.
  if (filter.minP > 0) ids = atLeast(ids, weights, filter.minP);
  return { ids, weights: Float64Array.from(ids, (id) => weights[id]!) };
}

function kthLargest(weights: Float64Array, k: number): number {
  return weights.toSorted()[weights.length - k]!;
}

function atLeast(ids: Int32Array, weights: Float64Array, bound: number): Int32Array<ArrayBuffer> {
  return ids.filter((id) => weights[id]! >= bound) as Int32Array<ArrayBuffer>;
}

/** By logits, not weights: `exp` makes equal what differs in the last bits. */
function sortByLogit(ids: Int32Array<ArrayBuffer>, logits: Float32Array): Int32Array<ArrayBuffer> {
  return ids.sort((a, b) => logits[b]! - logits[a]! || a - b);
}

/** A sum that misses the nucleus's probability by rounding has reached it. */
const roundingSlack = 1 - 1e-12;

function nucleus(
  ids: Int32Array<ArrayBuffer>,
  weights: Float64Array,
  reach: number,
): Int32Array<ArrayBuffer> {
  let sum = 0;
  for (let at = 0; at < ids.length; at += 1) {
    sum += weights[ids[at]!]!;
    if (sum >= reach * roundingSlack) return ids.subarray(0, at + 1);
  }
  return ids;
}
