/**
 * @file Integer loops of the dispatch plan: building by counting sort, load, and the check of every invariant.
 *
 * All loops are O(T + E + N) over typed arrays. Letters: `T` tokens, `E` experts, `N` routed pairs.
 */
import { capacityStatsFault } from './capacity/kept-pairs.kernel.ts';
import type { DispatchPlan } from './dispatch-plan.ts';

/** The arrays of a plan, before its statistics. */
export interface PlanArrays {
  /** `[E+1]`, pairs by expert. */
  readonly offsets: Int32Array;
  /** `[N]`, token of each pair. */
  readonly token: Int32Array;
  /** `[N]`, `token·E + expert`. */
  readonly source: Int32Array;
  /** `[T+1]`, pairs by token. */
  readonly tokenOffsets: Int32Array;
  /** `[N]`, pair indices by token. */
  readonly slot: Int32Array;
}

/** Why a list of expert ids is not a plan. */
export interface IdFault {
  /** Position in the id list. */
  readonly entry: number;
  /** Token of that entry. */
  readonly token: number;
  /** The offending id. */
  readonly id: number;
  /** Whether the id is out of range or names an expert the token already has. */
  readonly kind: 'range' | 'repeat';
}

/** Which invariant a plan breaks. */
export interface PlanFault {
  /** Member, as in `offsets[3]`. */
  readonly subject: string;
  /** What must hold. */
  readonly expectation: string;
  /** What was found. */
  readonly value: string;
}

/**
 * Token offsets of exact top-k routing: every unmasked token owns `topK` entries.
 *
 * @param tokens - T
 * @param topK - entries of an unmasked token
 * @param mask - `[T]`, 0 leaves the token out
 * @returns `[T+1]`, fresh
 */
export function topKOffsets(tokens: number, topK: number, mask: Uint8Array | undefined): Int32Array {
  const tokenOffsets = new Int32Array(tokens + 1);
  let end = 0;
  for (let t = 0; t < tokens; t += 1) {
    if (mask === undefined || mask[t] !== 0) end += topK;
    tokenOffsets[t + 1] = end;
  }
  return tokenOffsets;
}

/** Copies the ids of unmasked tokens next to each other: `ids_TK` `[T, K]` → `[N]`. Nothing masked: the same array. */
export function packIds(ids_TK: Int32Array, topK: number, tokenOffsets: Int32Array): Int32Array {
  const tokens = tokenOffsets.length - 1;
  const pairs = tokenOffsets[tokens]!;
  if (pairs === ids_TK.length) return ids_TK;
  const packed = new Int32Array(pairs);
  for (let t = 0; t < tokens; t += 1) {
    const start = tokenOffsets[t]!;
    if (tokenOffsets[t + 1] === start) continue;
    for (let k = 0; k < topK; k += 1) packed[start + k] = ids_TK[t * topK + k]!;
  }
  return packed;
}

/**
 * Groups pairs by expert with a stable counting sort. `offsets` doubles as the cursor, so nothing else is allocated.
 *
 * @param tokenOffsets - `[T+1]`; kept in the result, the caller must not write it again
 * @param ids - `[N]`, expert of each entry, grouped by token; only read
 * @param experts - E
 * @returns the arrays of the plan, or the first fault
 */
export function sortPairs(tokenOffsets: Int32Array, ids: Int32Array, experts: number): PlanArrays | IdFault {
  const tokens = tokenOffsets.length - 1;
  const pairs = tokenOffsets[tokens]!;
  const offsets = new Int32Array(experts + 1);
  for (let n = 0; n < pairs; n += 1) {
    const id = ids[n]!;
    if (id < 0 || id >= experts) return { entry: n, token: tokenOfEntry(tokenOffsets, n), id, kind: 'range' };
    offsets[id + 1]! += 1;
  }
  for (let e = 0; e < experts; e += 1) offsets[e + 1]! += offsets[e]!;
  const token = new Int32Array(pairs);
  const source = new Int32Array(pairs);
  const slot = new Int32Array(pairs);
  for (let t = 0, n = 0; t < tokens; t += 1) {
    const end = tokenOffsets[t + 1]!;
    for (; n < end; n += 1) {
      const id = ids[n]!;
      const at = offsets[id]!;
      offsets[id] = at + 1;
      token[at] = t;
      source[at] = t * experts + id;
      slot[n] = at;
    }
  }
  for (let e = experts; e > 0; e -= 1) offsets[e] = offsets[e - 1]!;
  offsets[0] = 0;
  for (let n = 1; n < pairs; n += 1) {
    if (source[n] === source[n - 1]) return repeated(tokenOffsets, ids, source[n]!, experts);
  }
  return { offsets, token, source, tokenOffsets, slot };
}

function repeated(tokenOffsets: Int32Array, ids: Int32Array, source: number, experts: number): IdFault {
  const token = Math.floor(source / experts);
  const id = source - token * experts;
  let entry = tokenOffsets[token]!;
  while (ids[entry] !== id) entry += 1;
  entry += 1;
  while (ids[entry] !== id) entry += 1;
  return { entry, token, id, kind: 'repeat' };
}

function tokenOfEntry(tokenOffsets: Int32Array, entry: number): number {
  let token = 0;
  while (tokenOffsets[token + 1]! <= entry) token += 1;
  return token;
}

/** Load of each expert and what follows from it. */
export function measureLoad(
  offsets: Int32Array,
  tokenOffsets: Int32Array,
): { load: Int32Array; maxLoad: number; idleExperts: number; routedTokens: number } {
  const experts = Math.max(0, offsets.length - 1);
  const load = new Int32Array(experts);
  let maxLoad = 0;
  let idleExperts = 0;
  for (let e = 0; e < experts; e += 1) {
    const count = offsets[e + 1]! - offsets[e]!;
    load[e] = count;
    if (count > maxLoad) maxLoad = count;
    if (count === 0) idleExperts += 1;
  }
  let routedTokens = 0;
  for (let t = 1; t < tokenOffsets.length; t += 1)
    if (tokenOffsets[t]! > tokenOffsets[t - 1]!) routedTokens += 1;
  return { load, maxLoad, idleExperts, routedTokens };
}

/** The first invariant that a plan breaks, or null. */
export function checkPlan(plan: DispatchPlan): PlanFault | null {
  return checkLengths(plan) ?? checkExpertSide(plan) ?? checkTokenSide(plan) ?? checkStats(plan);
}

function fault(subject: string, expectation: string, value: unknown): PlanFault {
  return { subject, expectation, value: typeof value === 'object' ? kindOf(value) : String(value) };
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : ((value as object).constructor?.name ?? 'object');
}

function checkLengths(plan: DispatchPlan): PlanFault | null {
  for (const key of ['tokens', 'experts'] as const) {
    if (!Number.isInteger(plan[key]) || plan[key] < 0)
      return fault(key, 'must be an integer of at least 0', plan[key]);
  }
  if (plan.tokens * plan.experts > 0x7fff_ffff) {
    return fault('tokens', 'tokens·experts must fit in int32', plan.tokens * plan.experts);
  }
  for (const key of ['offsets', 'token', 'source', 'tokenOffsets', 'slot'] as const) {
    if (!(plan[key] instanceof Int32Array)) return fault(key, 'must be an Int32Array', plan[key]);
  }
  for (const key of ['prefix', 'primary'] as const) {
    if (plan[key] !== undefined && !(plan[key] instanceof Uint8Array))
      return fault(key, 'must be a Uint8Array', plan[key]);
  }
  const pairs = plan.token.length;
  const expected = {
    offsets: plan.experts + 1,
    tokenOffsets: plan.tokens + 1,
    source: pairs,
    slot: pairs,
  } as const;
  for (const key of ['offsets', 'tokenOffsets', 'source', 'slot'] as const) {
    if (plan[key].length !== expected[key])
      return fault(`${key}.length`, `must be ${expected[key]}`, plan[key].length);
  }
  for (const key of ['prefix', 'primary'] as const) {
    if (plan[key] !== undefined && plan[key].length !== pairs)
      return fault(`${key}.length`, `must be ${pairs}`, plan[key].length);
  }
  return (
    checkOffsets('offsets', plan.offsets, pairs) ?? checkOffsets('tokenOffsets', plan.tokenOffsets, pairs)
  );
}

function checkOffsets(name: string, offsets: Int32Array, pairs: number): PlanFault | null {
  if (offsets[0] !== 0) return fault(`${name}[0]`, 'must be 0', offsets[0]);
  for (let i = 1; i < offsets.length; i += 1) {
    if (offsets[i]! < offsets[i - 1]!)
      return fault(`${name}[${i}]`, `must be at least ${offsets[i - 1]}`, offsets[i]);
  }
  const last = offsets.length - 1;
  return offsets[last] === pairs
    ? null
    : fault(`${name}[${last}]`, `must be the number of pairs ${pairs}`, offsets[last]);
}

function checkExpertSide(plan: DispatchPlan): PlanFault | null {
  const { offsets, token, source, tokens, experts } = plan;
  for (let e = 0; e < experts; e += 1) {
    for (let n = offsets[e]!; n < offsets[e + 1]!; n += 1) {
      const t = token[n]!;
      if (t < 0 || t >= tokens) return fault(`token[${n}]`, `must be in 0…${tokens - 1}`, t);
      if (n > offsets[e]! && t <= token[n - 1]!)
        return fault(`token[${n}]`, `must be above ${token[n - 1]} inside expert ${e}`, t);
      if (source[n] !== t * experts + e)
        return fault(`source[${n}]`, `must be token·experts + expert = ${t * experts + e}`, source[n]);
    }
  }
  return null;
}

function checkTokenSide(plan: DispatchPlan): PlanFault | null {
  const { slot, token, tokenOffsets, tokens } = plan;
  const seen = new Uint8Array(slot.length);
  for (let t = 0; t < tokens; t += 1) {
    for (let i = tokenOffsets[t]!; i < tokenOffsets[t + 1]!; i += 1) {
      const n = slot[i]!;
      if (n < 0 || n >= slot.length) return fault(`slot[${i}]`, `must be in 0…${slot.length - 1}`, n);
      if (token[n] !== t)
        return fault(`slot[${i}]`, `must be a pair of token ${t}`, `pair ${n} of token ${token[n]}`);
      if (seen[n] === 1) return fault(`slot[${i}]`, 'must list every pair once', `pair ${n} again`);
      seen[n] = 1;
    }
  }
  return null;
}

function checkStats(plan: DispatchPlan): PlanFault | null {
  const { stats } = plan;
  if (typeof stats !== 'object' || stats === null) return fault('stats', 'must be an object', stats);
  const { load, maxLoad, idleExperts, routedTokens } = measureLoad(plan.offsets, plan.tokenOffsets);
  const pairs = plan.token.length;
  const imbalance = pairs === 0 ? 0 : (maxLoad * plan.experts) / pairs;
  const expected = { pairs, maxLoad, idleExperts, routedTokens, imbalance } as const;
  for (const key of ['pairs', 'maxLoad', 'idleExperts', 'routedTokens', 'imbalance'] as const) {
    if (stats[key] !== expected[key]) return fault(`stats.${key}`, `must be ${expected[key]}`, stats[key]);
  }
  if (!(stats.load instanceof Int32Array) || stats.load.length !== load.length) {
    return fault('stats.load', `must be an Int32Array of ${load.length}`, stats.load);
  }
  for (let e = 0; e < load.length; e += 1) {
    if (stats.load[e] !== load[e]) return fault(`stats.load[${e}]`, `must be ${load[e]}`, stats.load[e]);
  }
  const capacity = capacityStatsFault(plan);
  return capacity === null ? null : fault(capacity.subject, capacity.expectation, capacity.value);
}
