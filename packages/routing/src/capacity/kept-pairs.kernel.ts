/**
 * @file From flags to the pairs of a plan: fresh arrays grouped by token, pruning, and what changed against the dropless plan.
 *
 * Letters: `T` tokens, `E` experts, `M` candidates, `N` pairs that stay.
 */
import type { CapacityStats, DispatchPlan } from '../dispatch-plan.ts';
import type { Candidates } from './candidates.kernel.ts';

/** Pairs grouped by token. Fresh. */
export interface TokenPairs {
  /** Int32Array `[T+1]`. */
  readonly tokenOffsets: Int32Array;
  /** Int32Array `[N]`: expert of each entry. */
  readonly ids: Int32Array;
}

/**
 * Clears `keep` where a token has more than `most` pairs: its best by score stay, ties to the lower expert.
 *
 * @param keep - Uint8Array `[M]`, read and written
 * @param candidates - the pairs
 * @param scores - `[T, E]`
 * @param most - at least 1
 */
export function pruneTokensInto(
  keep: Uint8Array,
  candidates: Candidates,
  scores: ArrayLike<number>,
  most: number,
): void {
  const { tokenOffsets, source } = candidates;
  for (let t = 0; t + 1 < tokenOffsets.length; t += 1) {
    const [from, to] = [tokenOffsets[t]!, tokenOffsets[t + 1]!];
    let count = 0;
    for (let c = from; c < to; c += 1) count += keep[c]!;
    for (; count > most; count -= 1) {
      let worst = -1;
      for (let c = from; c < to; c += 1) {
        if (keep[c] === 0) continue;
        if (worst < 0 || comesBefore(source[worst]!, source[c]!, scores)) worst = c;
      }
      keep[worst] = 0;
    }
  }
}

/** Higher score first, then the lower source. */
function comesBefore(a: number, b: number, scores: ArrayLike<number>): boolean {
  return scores[a] === scores[b] ? a < b : scores[a]! > scores[b]!;
}

/**
 * The kept candidates as fresh arrays: primary pairs in their order, then added ones by score, ties to the lower expert.
 *
 * @param keep - Uint8Array `[M]`
 * @param candidates - the pairs
 * @param scores - `[T, E]`
 */
export function collectKept(keep: Uint8Array, candidates: Candidates, scores: ArrayLike<number>): TokenPairs {
  const { count, experts, tokenOffsets: from, source, added } = candidates;
  const tokens = from.length - 1;
  let pairs = 0;
  for (let c = 0; c < count; c += 1) pairs += keep[c]!;
  const ids = new Int32Array(pairs);
  const tokenOffsets = new Int32Array(tokens + 1);
  let at = 0;
  for (let t = 0; t < tokens; t += 1) {
    let sorted = -1;
    for (let c = from[t]!; c < from[t + 1]!; c += 1) {
      if (keep[c] === 0) continue;
      const e = source[c]! - t * experts;
      let place = at;
      at += 1;
      if (added[c] === 1) {
        if (sorted < 0) sorted = place;
        while (place > sorted && comesBefore(source[c]!, t * experts + ids[place - 1]!, scores)) {
          ids[place] = ids[place - 1]!;
          place -= 1;
        }
      }
      ids[place] = e;
    }
    tokenOffsets[t + 1] = at;
  }
  return { tokenOffsets, ids };
}

/**
 * What a plan changed.
 *
 * @param plan - the plan after a policy
 * @param primary - the dropless plan, of the same sizes
 * @param options - mask `[T]`, and the caps, which are kept
 * @returns `primary` `[N]` in plan order, or null when every pair was in the dropless plan; and statistics. Fresh.
 */
export function compareWithPrimary(
  plan: Pick<DispatchPlan, 'tokens' | 'experts' | 'source' | 'tokenOffsets' | 'slot'>,
  primary: DispatchPlan,
  options: { readonly mask: Uint8Array | undefined; readonly limit: Int32Array },
): { readonly primary: Uint8Array | null; readonly capacity: CapacityStats } {
  const { tokens, experts } = plan;
  const flags = new Uint8Array(plan.source.length);
  const owner = new Int32Array(experts).fill(-1);
  let stayed = 0;
  let orphans = 0;
  let most = 0;
  for (let t = 0; t < tokens; t += 1) {
    const [from, to] = [plan.tokenOffsets[t]!, plan.tokenOffsets[t + 1]!];
    const [firstPrimary, lastPrimary] = [primary.tokenOffsets[t]!, primary.tokenOffsets[t + 1]!];
    for (let i = firstPrimary; i < lastPrimary; i += 1)
      owner[primary.source[primary.slot[i]!]! - t * experts] = t;
    for (let i = from; i < to; i += 1) {
      const pair = plan.slot[i]!;
      if (owner[plan.source[pair]! - t * experts] !== t) continue;
      flags[pair] = 1;
      stayed += 1;
    }
    if (from === to && lastPrimary > firstPrimary) orphans += 1;
    most = Math.max(most, to - from);
  }
  const expanded = flags.length - stayed;
  return {
    primary: expanded === 0 ? null : flags,
    capacity: {
      preLoad: primary.stats.load.slice(),
      limit: options.limit.slice(),
      dropped: primary.source.length - stayed,
      expanded,
      orphans,
      perToken: countPerToken(plan.tokenOffsets, most, options.mask),
    },
  };
}

function countPerToken(tokenOffsets: Int32Array, most: number, mask: Uint8Array | undefined): Int32Array {
  const perToken = new Int32Array(most + 1);
  for (let t = 0; t + 1 < tokenOffsets.length; t += 1) {
    if (mask !== undefined && mask[t] === 0) continue;
    perToken[tokenOffsets[t + 1]! - tokenOffsets[t]!]! += 1;
  }
  return perToken;
}

/** First member of capacity statistics that contradicts its plan, or null. */
export function capacityStatsFault(
  plan: DispatchPlan,
): { readonly subject: string; readonly expectation: string; readonly value: number } | null {
  const { capacity } = plan.stats;
  if (capacity === undefined) return null;
  if (capacity.preLoad.length !== plan.experts) {
    const expectation = `must be ${plan.experts}`;
    return { subject: 'stats.capacity.preLoad.length', expectation, value: capacity.preLoad.length };
  }
  let stayed = 0;
  for (let n = 0; n < plan.source.length; n += 1) {
    if (plan.primary === undefined || plan.primary[n] !== 0) stayed += 1;
  }
  let before = 0;
  for (let e = 0; e < plan.experts; e += 1) before += capacity.preLoad[e]!;
  const expected = { dropped: before - stayed, expanded: plan.source.length - stayed } as const;
  for (const key of ['dropped', 'expanded'] as const) {
    if (capacity[key] !== expected[key])
      return {
        subject: `stats.capacity.${key}`,
        expectation: `must be ${expected[key]}`,
        value: capacity[key],
      };
  }
  const most = capacity.perToken.length - 1;
  const counted = countPerToken(plan.tokenOffsets, Math.max(most, plan.experts), undefined);
  for (let c = 1; c < counted.length; c += 1) {
    const value = capacity.perToken[c] ?? 0;
    if (value !== counted[c])
      return { subject: `stats.capacity.perToken[${c}]`, expectation: `must be ${counted[c]}`, value };
  }
  return null;
}
