/**
 * @file Choices of token-choice gates on the host: host arrays in, experts of each token out.
 *
 * Letters: `T` tokens, `E` experts, `W` columns (experts, and null experts after them), `K` top-k, `N` chosen.
 */
import { rowIsUsable, scoreRowInto, topKOfRow } from '../select-experts.kernel.ts';
import type { GateScore } from '../gate-config.ts';
import type { Choice } from './stages.ts';

/** Sizes of a batch of rows. */
export interface RowSizes {
  /** `T`. */
  readonly tokens: number;
  /** `W`. */
  readonly width: number;
  /** Uint8Array `[T]`, 0 is skipped. */
  readonly mask?: Uint8Array;
}

/** The first unmasked token whose row `[W]` has a NaN, +∞, or nothing but -∞; -1 when there is none. */
export function firstBadRow(logits: ArrayLike<number>, { tokens, width, mask }: RowSizes): number {
  for (let t = 0; t < tokens; t += 1)
    if ((mask === undefined || mask[t] !== 0) && !rowIsUsable(logits, t * width, width)) return t;
  return -1;
}

/** Scores `[T, W]` of logits in float64; rows of masked tokens are 0. Fresh. */
export function scoreRows(
  logits: ArrayLike<number>,
  { tokens, width, mask, score }: RowSizes & { readonly score: GateScore },
): Float64Array {
  const scores = new Float64Array(tokens * width);
  const config = { experts: width, score };
  for (let t = 0; t < tokens; t += 1) {
    if (mask !== undefined && mask[t] === 0) continue;
    scoreRowInto(scores.subarray(t * width, (t + 1) * width), logits, t * width, config);
  }
  return scores;
}

/** The choice without columns from `experts` on. Fresh. */
export function realPairs(ids: Int32Array, tokenOffsets: Int32Array, experts: number): Choice {
  const kept = new Int32Array(ids.length);
  const offsets = new Int32Array(tokenOffsets.length);
  let n = 0;
  for (let t = 0; t + 1 < tokenOffsets.length; t += 1) {
    for (let i = tokenOffsets[t]!; i < tokenOffsets[t + 1]!; i += 1)
      if (ids[i]! < experts) kept[n++] = ids[i]!;
    offsets[t + 1] = n;
  }
  return { ids: kept.slice(0, n), tokenOffsets: offsets };
}

/**
 * The `k` largest of every row, ties to the lowest column.
 *
 * @param values - `[T, W]`, only read
 * @param k - at most W
 */
export function topKRows(values: ArrayLike<number>, k: number, { tokens, width, mask }: RowSizes): Choice {
  const ids = new Int32Array(tokens * k);
  const tokenOffsets = new Int32Array(tokens + 1);
  const best = new Float64Array(k);
  let n = 0;
  for (let t = 0; t < tokens; t += 1) {
    if (mask === undefined || mask[t] !== 0) {
      topKOfRow(values, t * width, width, ids, n, best);
      n += k;
    }
    tokenOffsets[t + 1] = n;
  }
  return { ids: ids.slice(0, n), tokenOffsets };
}
