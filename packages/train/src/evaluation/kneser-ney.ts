/**
 * @file Interpolated modified Kneser-Ney over pairs of tokens (Chen and Goodman 1999, section 3).
 *
 *   p(w|v) = max(c(vw) - D(c(vw)), 0) / c(v.) + g(v) * q(w)
 *   q(w)   = max(N(.w) - D'(N(.w)), 0) / N(..) + g' / V          N(.w): in how many contexts w follows
 *
 * with three discounts each for counts of 1, 2, and 3 or more, estimated from the counts of counts:
 *   Y = n1 / (n1 + 2 n2);  D(k) = k - (k + 1) Y n(k+1) / n(k).
 * The mass that discounting frees, g, goes to the lower order, so that every distribution sums to 1.
 */
import type { BigramCounts } from './bigram-counts.ts';

/** A distribution of the next token given the previous one. */
export interface BigramModel {
  /** p(next | previous), above 0; sums to 1 over `next`. */
  probability(previous: number, next: number): number;
}

type Discounts = readonly [one: number, two: number, more: number];

/** Fits the model. With no counts at all it is uniform. */
export function fitKneserNey(counts: BigramCounts): BigramModel {
  const { vocabularySize: size, pairs } = counts;
  const contexts = new Float64Array(size);
  const continuations = new Float64Array(size);
  for (const [key, count] of pairs) {
    const previous = Math.floor(key / size);
    contexts[previous] = (contexts[previous] ?? 0) + count;
    continuations[key % size] = (continuations[key % size] ?? 0) + 1;
  }
  const lower = fitContinuation(continuations, pairs.size);
  const discounts = estimateDiscounts(pairs.values());
  const freed = new Float64Array(size);
  for (const [key, count] of pairs) {
    const previous = Math.floor(key / size);
    freed[previous] = (freed[previous] ?? 0) + discountOf(count, discounts);
  }
  return Object.freeze({
    probability(previous: number, next: number): number {
      const total = contexts[previous] ?? 0;
      const base = lower[next] ?? 0;
      if (total === 0) return base;
      const count = pairs.get(previous * size + next) ?? 0;
      const kept = count - discountOf(count, discounts);
      return (kept + (freed[previous] ?? 0) * base) / total;
    },
  });
}

/** q: the distribution of tokens by the number of contexts they follow. */
function fitContinuation(continuations: Float64Array, total: number): Float64Array {
  const size = continuations.length;
  if (total === 0) return new Float64Array(size).fill(1 / size);
  const discounts = estimateDiscounts(continuations);
  let freed = 0;
  for (const count of continuations) freed += discountOf(count, discounts);
  return continuations.map((count) => (count - discountOf(count, discounts) + freed / size) / total);
}

function discountOf(count: number, [one, two, more]: Discounts): number {
  if (count <= 0) return 0;
  if (count === 1) return one;
  return count === 2 ? two : more;
}

/** Discounts from counts of counts, kept between 0 and the count; 0.75 where too little was seen to estimate. */
function estimateDiscounts(counts: Iterable<number>): Discounts {
  const seen = [0, 0, 0, 0, 0];
  for (const count of counts) if (count >= 1 && count <= 4) seen[count] = (seen[count] ?? 0) + 1;
  const [, n1 = 0, n2 = 0, n3 = 0, n4 = 0] = seen;
  if (n1 === 0 || n2 === 0) return [0.75, 0.75, 0.75];
  const y = n1 / (n1 + 2 * n2);
  const estimate = (count: number, here: number, above: number): number =>
    here === 0 ? 0.75 : Math.min(Math.max(count - ((count + 1) * y * above) / here, 0.1), 0.95 * count);
  return [estimate(1, n1, n2), estimate(2, n2, n3), estimate(3, n3, n4)];
}
