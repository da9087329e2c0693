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

/** Two levels of a choice. */
export interface GroupedSizes extends RowSizes {
  /** Equal groups of neighbouring columns. */
  readonly groups: number;
  /** Groups of a token. */
  readonly kept: number;
  /** Columns of each of them. */
  readonly perGroup: number;
}

/**
 * The `perGroup` best columns of each of the `kept` best groups, best first. A group is worth the sum of exp over its logits.
 *
 * @param logits - `[T, W]`, only read
 */
export function groupedRows(logits: ArrayLike<number>, sizes: GroupedSizes): Choice {
  const { tokens, width, mask, groups, kept, perGroup } = sizes;
  const size = width / groups;
  const ids = new Int32Array(tokens * kept * perGroup);
  const tokenOffsets = new Int32Array(tokens + 1);
  const worth = new Float64Array(groups);
  const order = new Int32Array(kept);
  const best = new Float64Array(Math.max(kept, perGroup));
  let n = 0;
  for (let t = 0; t < tokens; t += 1) {
    if (mask === undefined || mask[t] !== 0) {
      for (let g = 0; g < groups; g += 1) worth[g] = logSumExpOf(logits, t * width + g * size, size);
      topKOfRow(worth, 0, groups, order, 0, best.subarray(0, kept));
      const from = n;
      for (const g of order) {
        topKOfRow(logits, t * width + g * size, size, ids, n, best.subarray(0, perGroup));
        for (let i = n; i < n + perGroup; i += 1) ids[i]! += g * size;
        n += perGroup;
      }
      sortRun(ids, { from, to: n }, logits, t * width);
    }
    tokenOffsets[t + 1] = n;
  }
  return { ids: ids.slice(0, n), tokenOffsets };
}

function logSumExpOf(values: ArrayLike<number>, from: number, size: number): number {
  let largest = -Infinity;
  for (let i = from; i < from + size; i += 1) largest = Math.max(largest, values[i]!);
  if (largest === -Infinity) return largest;
  let sum = 0;
  for (let i = from; i < from + size; i += 1) sum += Math.exp(values[i]! - largest);
  return largest + Math.log(sum);
}

/** Sorts `ids[from … to]` by value, best first, ties to the lowest id. */
function sortRun(
  ids: Int32Array,
  { from, to }: { readonly from: number; readonly to: number },
  values: ArrayLike<number>,
  row: number,
): void {
  for (let i = from + 1; i < to; i += 1) {
    const id = ids[i]!;
    const value = values[row + id]!;
    let place = i;
    while (place > from) {
      const before = ids[place - 1]!;
      const other = values[row + before]!;
      if (other > value || (other === value && before < id)) break;
      ids[place] = before;
      place -= 1;
    }
    ids[place] = id;
  }
}

/** How {@link aboveRows} chooses. */
export interface AboveSizes extends RowSizes {
  /** Columns that can be chosen, from 0; the others are bounds. Default `width`. */
  readonly columns?: number;
  /** A column is on where its value is above this number, or above the value of the bound `e + columns`. */
  readonly bound: number | 'columns';
  /** Choose the largest where none is on. */
  readonly atLeastOne: boolean;
}

/**
 * Every column whose value is above its bound, best first.
 *
 * @param values - `[T, W]`, only read
 */
export function aboveRows(values: ArrayLike<number>, sizes: AboveSizes): Choice {
  const { tokens, width, mask, columns = width, bound, atLeastOne } = sizes;
  const ids = new Int32Array(tokens * columns);
  const tokenOffsets = new Int32Array(tokens + 1);
  let n = 0;
  for (let t = 0; t < tokens; t += 1) {
    const row = t * width;
    const from = n;
    if (mask === undefined || mask[t] !== 0) {
      let largest = 0;
      for (let e = 0; e < columns; e += 1) {
        if (values[row + e]! > values[row + largest]!) largest = e;
        if (values[row + e]! > (bound === 'columns' ? values[row + columns + e]! : bound)) ids[n++] = e;
      }
      if (n === from && atLeastOne) ids[n++] = largest;
      sortRun(ids, { from, to: n }, values, row);
    }
    tokenOffsets[t + 1] = n;
  }
  return { ids: ids.slice(0, n), tokenOffsets };
}

/** How {@link topPRows} chooses. */
export interface TopPSizes extends RowSizes {
  /** Share that the chosen must reach. */
  readonly p: number;
  /** Fewest of a token. */
  readonly least: number;
  /** Most of a token. */
  readonly most: number;
}

/**
 * The fewest columns of every row whose values sum to `p`, best first.
 *
 * @param values - `[T, W]`, only read; rows sum to 1
 */
export function topPRows(values: ArrayLike<number>, sizes: TopPSizes): Choice {
  const { tokens, width, mask, p, least, most } = sizes;
  const ids = new Int32Array(tokens * most);
  const tokenOffsets = new Int32Array(tokens + 1);
  const order = new Int32Array(most);
  const best = new Float64Array(most);
  let n = 0;
  for (let t = 0; t < tokens; t += 1) {
    if (mask === undefined || mask[t] !== 0) {
      topKOfRow(values, t * width, width, order, 0, best);
      let sum = 0;
      for (let i = 0; i < most && (i < least || sum < p); i += 1) {
        ids[n++] = order[i]!;
        sum += best[i]!;
      }
    }
    tokenOffsets[t + 1] = n;
  }
  return { ids: ids.slice(0, n), tokenOffsets };
}

/**
 * The best column of every row, and the second where it is kept. `among` marks both, so that the first weighs the same either way.
 *
 * @param values - `[T, W]`, only read; not negative
 * @param isKept - whether the second stays, from its share of the two and the token
 */
export function topTwoRows(
  values: ArrayLike<number>,
  isKept: (share: number, token: number) => boolean,
  { tokens, width, mask }: RowSizes,
): Choice {
  const ids = new Int32Array(tokens * 2);
  const tokenOffsets = new Int32Array(tokens + 1);
  const among = new Uint8Array(tokens * width);
  const best = new Float64Array(2);
  let n = 0;
  for (let t = 0; t < tokens; t += 1) {
    topKOfRow(values, t * width, width, ids, n, best);
    among[t * width + ids[n]!] = 1;
    among[t * width + ids[n + 1]!] = 1;
    const stays = isKept(best[1]! / (best[0]! + best[1]!), t);
    if (mask === undefined || mask[t] !== 0) n += stays ? 2 : 1;
    tokenOffsets[t + 1] = n;
  }
  return { ids: ids.slice(0, n), tokenOffsets, among };
}
