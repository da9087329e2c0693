/**
 * @file The transposed choice on the host: every expert takes its best tokens.
 *
 * Letters: `T` tokens, `E` experts, `C` tokens of an expert, `N` chosen.
 */
import type { Choice } from './stages.ts';

/** A batch that experts choose from. */
export interface ExpertChoiceProblem {
  /** `[T, E]`, only read. */
  readonly scores: ArrayLike<number>;
  /** `E`. */
  readonly experts: number;
  /** Tokens that compete, by group. A masked token is in none. */
  readonly cells: readonly Int32Array[];
  /** `C` of a group, from its number of tokens. */
  readonly capacity: (tokens: number) => number;
  /** Most experts of a token. Default any. */
  readonly maxPerToken?: number;
}

/** Int32Arrays of the tokens of each group, ascending; from `group` `[T]`, -1 for none. */
export function cellsOf({
  group,
  groups,
}: {
  readonly group: Int32Array;
  readonly groups: number;
}): Int32Array[] {
  const counts = new Int32Array(groups);
  for (const g of group) if (g >= 0) counts[g]! += 1;
  const cells = Array.from(counts, (count) => new Int32Array(count));
  counts.fill(0);
  for (const [t, g] of group.entries()) if (g >= 0) cells[g]![counts[g]!++] = t;
  return cells;
}

/**
 * Every expert takes the `C` tokens of a group that score best for it; ties go to the earliest token. With `maxPerToken`, pairs are taken in
 * the order of their scores while expert and token have room: an expert may then end with fewer than `C`.
 *
 * @returns experts of each token, best first; fresh
 */
export function expertChoice(problem: ExpertChoiceProblem): Choice {
  const { scores, experts, cells, capacity, maxPerToken = experts } = problem;
  const tokens = experts === 0 ? 0 : scores.length / experts;
  const chosen = new Uint8Array(tokens * experts);
  for (const cell of cells) {
    const room = Math.min(cell.length, capacity(cell.length));
    if (maxPerToken < experts) takeBestPairsInto(chosen, cell, { scores, experts, room, maxPerToken });
    else takeColumnsInto(chosen, cell, { scores, experts, room });
  }
  return chosenRows(chosen, scores, experts);
}

interface Columns {
  readonly scores: ArrayLike<number>;
  readonly experts: number;
  readonly room: number;
}

function takeColumnsInto(chosen: Uint8Array, cell: Int32Array, { scores, experts, room }: Columns): void {
  for (let e = 0; e < experts; e += 1) {
    const order = cell.toSorted((a, b) => scores[b * experts + e]! - scores[a * experts + e]! || a - b);
    for (let i = 0; i < room; i += 1) chosen[order[i]! * experts + e] = 1;
  }
}

function takeBestPairsInto(
  chosen: Uint8Array,
  cell: Int32Array,
  { scores, experts, room, maxPerToken }: Columns & { readonly maxPerToken: number },
): void {
  const pairs = new Int32Array(cell.length * experts);
  for (const [i, t] of cell.entries())
    for (let e = 0; e < experts; e += 1) pairs[i * experts + e] = t * experts + e;
  pairs.sort((a, b) => scores[b]! - scores[a]! || a - b);
  const load = new Int32Array(experts);
  const taken = new Map<number, number>();
  for (const pair of pairs) {
    const [t, e] = [Math.floor(pair / experts), pair % experts];
    const count = taken.get(t) ?? 0;
    if (load[e]! >= room || count >= maxPerToken) continue;
    chosen[pair] = 1;
    load[e]! += 1;
    taken.set(t, count + 1);
  }
}

/**
 * A table of chosen pairs as a choice: experts of each token by score, ties to the lowest.
 *
 * @param chosen - `[T, E]`, not 0 where chosen
 * @param scores - `[T, E]`
 */
export function chosenRows(chosen: Uint8Array, scores: ArrayLike<number>, experts: number): Choice {
  const tokens = experts === 0 ? 0 : chosen.length / experts;
  const tokenOffsets = new Int32Array(tokens + 1);
  const ids: number[] = [];
  for (let t = 0; t < tokens; t += 1) {
    const row: number[] = [];
    for (let e = 0; e < experts; e += 1) if (chosen[t * experts + e] !== 0) row.push(e);
    row.sort((a, b) => scores[t * experts + b]! - scores[t * experts + a]! || a - b);
    for (const e of row) ids.push(e);
    tokenOffsets[t + 1] = ids.length;
  }
  return { ids: Int32Array.from(ids), tokenOffsets };
}

/** Uint8Array `[T, E]`: 1 where a choice has a pair. Fresh. */
export function chosenTable({ ids, tokenOffsets }: Choice, experts: number): Uint8Array {
  const tokens = tokenOffsets.length - 1;
  const chosen = new Uint8Array(tokens * experts);
  for (let t = 0; t < tokens; t += 1)
    for (let i = tokenOffsets[t]!; i < tokenOffsets[t + 1]!; i += 1) chosen[t * experts + ids[i]!] = 1;
  return chosen;
}
