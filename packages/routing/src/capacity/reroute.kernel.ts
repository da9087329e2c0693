/**
 * @file Iterative reroute: cap, let every short token choose its best experts not yet tried, cap again.
 *
 * The first version of Capacity-Aware Inference (2503.05066v1). A dropped pair is never offered again, so rounds end; the last act of a round
 * is the cap, so no column is over it whenever they stop.
 *
 * Letters: `T` tokens, `E` experts, `K` most experts of a token, `M` pairs.
 */
import type { DispatchPlan } from '../dispatch-plan.ts';
import { capColumnsInto } from './cap-columns.kernel.ts';
import type { Columns, RankBy } from './cap-columns.kernel.ts';
import { listCandidates } from './candidates.kernel.ts';
import type { Candidates } from './candidates.kernel.ts';
import type { Cells } from './cells.kernel.ts';
import type { CapacityScratch } from './scratch.kernel.ts';

/** The pairs after the last round. Scratch. */
export interface Rerouted {
  /** What was chosen in the last round. */
  readonly candidates: Candidates;
  /** Uint8Array `[M]`: 1 for what stays. */
  readonly keep: Uint8Array;
}

/** What reroute works on. */
export interface RerouteRules {
  /** The dropless plan: a token is short while it has fewer pairs than here. */
  readonly primary: DispatchPlan;
  /** Cells of the tokens. */
  readonly cells: Cells;
  /** Columns and their caps. */
  readonly columns: Columns;
  /** Ranking inside a column. */
  readonly rank: RankBy;
  /** At most this many rounds, at least 1. */
  readonly rounds: number;
}

/** Runs the rounds. O(rounds · (M + short tokens · E)). */
export function reroutePairs(rules: RerouteRules, scratch: CapacityScratch): Rerouted {
  const { primary, cells, rank } = rules;
  const { tokens, experts } = primary;
  const tried = scratch.bytes('rerouteTried', tokens * experts).fill(0);
  for (let n = 0; n < primary.source.length; n += 1) tried[primary.source[n]!] = 1;
  let candidates = listCandidates(primary, cells.of, { expand: null, perToken: 0 }, scratch);
  let keep = scratch.bytes('rerouteKeep0', candidates.count).fill(1);
  for (let round = 1; ; round += 1) {
    capColumnsInto(keep, candidates, rules, scratch);
    if (round === rules.rounds) break;
    const next = nextCandidates(
      { candidates, keep },
      { primary, tried, scores: rank.scores },
      round,
      scratch,
    );
    if (next === null) break;
    candidates = next;
    keep = scratch.bytes(`rerouteKeep${round % 2}`, candidates.count).fill(1);
  }
  return { candidates, keep };
}

/** What stayed, plus the best untried experts of short tokens; null when nothing could be added. */
function nextCandidates(
  now: Rerouted,
  world: {
    readonly primary: DispatchPlan;
    readonly tried: Uint8Array;
    readonly scores: ArrayLike<number>;
  },
  round: number,
  scratch: CapacityScratch,
): Candidates | null {
  const { primary, tried, scores } = world;
  const { tokens, experts } = primary;
  const name = (part: string): string => `reroute${round % 2}${part}`;
  const room = primary.source.length;
  const tokenOffsets = scratch.int32(name('Offsets'), tokens + 1);
  const token = scratch.int32(name('Token'), room);
  const source = scratch.int32(name('Source'), room);
  const added = scratch.bytes(name('Added'), room);
  let at = 0;
  let chosen = 0;
  tokenOffsets[0] = 0;
  for (let t = 0; t < tokens; t += 1) {
    const before = at;
    for (let c = now.candidates.tokenOffsets[t]!; c < now.candidates.tokenOffsets[t + 1]!; c += 1) {
      if (now.keep[c] === 0) continue;
      source[at] = now.candidates.source[c]!;
      token[at] = t;
      added[at] = now.candidates.added[c]!;
      at += 1;
    }
    const had = now.candidates.tokenOffsets[t + 1]! - now.candidates.tokenOffsets[t]!;
    const wanted = had === 0 ? 0 : primary.tokenOffsets[t + 1]! - primary.tokenOffsets[t]!;
    while (at - before < wanted) {
      const e = bestUntried(scores, tried, t * experts, experts);
      if (e < 0) break;
      tried[t * experts + e] = 1;
      source[at] = t * experts + e;
      token[at] = t;
      added[at] = 1;
      at += 1;
      chosen += 1;
    }
    tokenOffsets[t + 1] = at;
  }
  return chosen === 0 ? null : { count: at, experts, tokenOffsets, token, source, added };
}

/** The untried expert with the highest score, ties to the lower one; -1 when none is left. */
function bestUntried(scores: ArrayLike<number>, tried: Uint8Array, from: number, experts: number): number {
  let best = -1;
  let highest = -Infinity;
  for (let e = 0; e < experts; e += 1) {
    if (tried[from + e] === 1 || scores[from + e]! <= highest) continue;
    highest = scores[from + e]!;
    best = e;
  }
  return best;
}
