/**
 * @file The cap: of each over-full column only the best pairs stay.
 *
 * A column is the kept candidates of one (cell, bucket); a bucket is an expert, or a device with all its experts. Columns that fit are not
 * looked at. Full ones are cut by quick-select under a total order, so no tie is left to chance.
 *
 * Letters: `T` tokens, `E` experts, `M` candidates, `R` cells, `Q` buckets.
 */
import type { CapacityKey, PairPriority } from './capacity-config.ts';
import type { Candidates } from './candidates.kernel.ts';
import type { Cells } from './cells.kernel.ts';
import type { CapacityScratch } from './scratch.kernel.ts';

/** What a cap ranks by. */
export interface RankBy {
  /** The metric. */
  readonly key: CapacityKey;
  /** What comes before it. */
  readonly priority: PairPriority;
  /** `[T, E]`. */
  readonly scores: ArrayLike<number>;
  /** `[T]`, or undefined: all equal. */
  readonly tokenClass: Int32Array | undefined;
  /** `[T]`: source of each token's best pair; read for `best-first` only. */
  readonly bestPair: Int32Array | null;
  /** `[T, E]` numbers for the key `random`; made on first use. */
  readonly uniform: () => ArrayLike<number>;
}

/** How candidates fall into columns, and how many of each may stay. */
export interface Columns {
  /** Number of buckets `Q`. */
  readonly buckets: number;
  /** Int32Array `[E]`: bucket of each expert. */
  readonly bucketOf: Int32Array;
  /** Int32Array `[R, Q]`: pairs that may stay. */
  readonly limit: Int32Array;
}

/**
 * Clears `keep` for every pair that an over-full column cannot hold. O(M + R·Q), and expected O(column) for the full ones.
 *
 * @param keep - Uint8Array `[M]`, read and written
 * @param candidates - the pairs
 * @param rules - cells, columns and ranking
 * @param scratch - reused
 */
export function capColumnsInto(
  keep: Uint8Array,
  candidates: Candidates,
  rules: { readonly cells: Cells; readonly columns: Columns; readonly rank: RankBy },
  scratch: CapacityScratch,
): void {
  const { cells, columns, rank } = rules;
  const { count, experts, token, source } = candidates;
  const { buckets, bucketOf, limit } = columns;
  const ends = scratch.int32('columnEnds', limit.length + 1).fill(0);
  const column = scratch.int32('columnOf', count);
  for (let c = 0; c < count; c += 1) {
    if (keep[c] === 0) continue;
    const t = token[c]!;
    const at = cells.of[t]! * buckets + bucketOf[source[c]! - t * experts]!;
    column[c] = at;
    ends[at + 1]! += 1;
  }
  let full = 0;
  for (let q = 0; q < limit.length; q += 1) {
    if (ends[q + 1]! > limit[q]!) full += 1;
    ends[q + 1]! += ends[q]!;
  }
  if (full === 0) return;
  const order = scratch.int32('columnOrder', count);
  const cursor = scratch.int32('columnCursor', limit.length);
  cursor.set(ends.subarray(0, limit.length));
  for (let c = 0; c < count; c += 1) {
    if (keep[c] === 0) continue;
    const at = column[c]!;
    order[cursor[at]!] = c;
    cursor[at]! += 1;
  }
  const keys = createKeys(candidates, rank, scratch);
  for (let q = 0; q < limit.length; q += 1) {
    const [from, to, places] = [ends[q]!, ends[q + 1]!, limit[q]!];
    if (to - from <= places) continue;
    if (places > 0) {
      keys.fill(order, from, to);
      selectBest(order, { from, to, count: places }, keys);
    }
    for (let i = from + places; i < to; i += 1) keep[order[i]!] = 0;
  }
}

/** Keys of candidates: class first, then metric, then the lower source. */
interface Keys {
  readonly level: Float64Array;
  readonly metric: Float64Array;
  readonly source: Int32Array;
  fill(order: Int32Array, from: number, to: number): void;
}

function createKeys(candidates: Candidates, rank: RankBy, scratch: CapacityScratch): Keys {
  const { token, source, added, count } = candidates;
  const { key, priority, scores, tokenClass, bestPair } = rank;
  const level = scratch.float64('keyLevel', count);
  const metric = scratch.float64('keyMetric', count);
  const values = key === 'random' ? rank.uniform() : scores;
  const sign = key === 'order' ? -1 : 1;
  const byToken = key === 'order' || key === 'reverse';
  const fill = (order: Int32Array, from: number, to: number): void => {
    for (let i = from; i < to; i += 1) {
      const c = order[i]!;
      const t = token[c]!;
      const first =
        priority === 'primary-first'
          ? added[c] === 0
          : priority === 'best-first' && bestPair![t] === source[c];
      level[c] = 2 * (tokenClass === undefined ? 0 : tokenClass[t]!) + (first ? 1 : 0);
      metric[c] = byToken ? sign * t : values[source[c]!]!;
    }
  };
  return { level, metric, source, fill };
}

/** Whether candidate `a` stays before `b`. A total order: sources differ. */
function isBetter(a: number, b: number, keys: Keys): boolean {
  const { level, metric, source } = keys;
  if (level[a] !== level[b]) return level[a]! > level[b]!;
  if (metric[a] !== metric[b]) return metric[a]! > metric[b]!;
  return source[a]! < source[b]!;
}

/**
 * Moves the `count` best of `order[from … to]` to its front, in any order. Quick-select with the median of three; an input that keeps
 * splitting badly is sorted instead.
 */
function selectBest(
  order: Int32Array,
  part: { readonly from: number; readonly to: number; readonly count: number },
  keys: Keys,
): void {
  const last = part.from + part.count - 1;
  let low = part.from;
  let high = part.to - 1;
  let rounds = 2 * Math.ceil(Math.log2(part.to - part.from + 1)) + 8;
  while (low < high) {
    rounds -= 1;
    if (rounds < 0) {
      order.subarray(low, high + 1).sort((a, b) => (isBetter(a, b, keys) ? -1 : 1));
      return;
    }
    const pivot = medianOfThree(order[low]!, order[(low + high) >> 1]!, order[high]!, keys);
    let i = low;
    let j = high;
    while (i <= j) {
      while (isBetter(order[i]!, pivot, keys)) i += 1;
      while (isBetter(pivot, order[j]!, keys)) j -= 1;
      if (i > j) break;
      const swapped = order[i]!;
      order[i] = order[j]!;
      order[j] = swapped;
      i += 1;
      j -= 1;
    }
    if (last <= j) high = j;
    else if (last >= i) low = i;
    else return;
  }
}

function medianOfThree(a: number, b: number, c: number, keys: Keys): number {
  if (isBetter(a, b, keys)) {
    if (isBetter(b, c, keys)) return b;
    return isBetter(a, c, keys) ? c : a;
  }
  if (isBetter(a, c, keys)) return a;
  return isBetter(b, c, keys) ? c : b;
}
