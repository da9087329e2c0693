/**
 * @file The dispatch plan: who goes where, as integers on the host.
 *
 * A plan holds the same routed pairs twice: grouped by expert (`offsets`, `token`) and grouped by token
 * (`tokenOffsets`, `slot`). With both groupings dispatch, combine and every backward pass are gathers. Weights are
 * not here: they carry a gradient and stay on the device, found through `source`.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k, `N` routed pairs.
 */
import { MoebiusError } from '@moebius/core';

import { checkPlan, measureLoad } from './dispatch-plan.kernel.ts';

/** What a capacity policy did to a dropless plan. Plain numbers. */
export interface CapacityStats {
  /** Int32Array `[E]`: pairs of each expert before. */
  readonly preLoad: Int32Array;
  /** Int32Array `[R]`: the cap of an expert in each cell (for a device: of each expert on it, on average); empty when nothing was capped. */
  readonly limit: Int32Array;
  /** Pairs of the dropless plan that are gone. */
  readonly dropped: number;
  /** Pairs that were not in the dropless plan. */
  readonly expanded: number;
  /** Tokens that had a pair and have none. */
  readonly orphans: number;
  /** Int32Array: `perToken[c]` unmasked tokens have c pairs. */
  readonly perToken: Int32Array;
}

/** What a plan says about its balance. Plain numbers, so that it can be printed and sent. */
export interface RouteStats {
  /** Routed pairs `N`. */
  readonly pairs: number;
  /** Tokens with at least one pair. */
  readonly routedTokens: number;
  /** Int32Array `[E]`: pairs of each expert. */
  readonly load: Int32Array;
  /** Largest load, in pairs. */
  readonly maxLoad: number;
  /** Experts without a pair. */
  readonly idleExperts: number;
  /** Largest load over mean load; 1 is perfect balance, E is collapse, 0 is an empty plan. */
  readonly imbalance: number;
  /** What a capacity policy did; absent when none was applied. */
  readonly capacity?: CapacityStats;
}

/**
 * Integers that say which token goes to which expert. Arrays are fresh and never written after the plan is made: the
 * engine may keep them without a copy.
 */
export interface DispatchPlan {
  /** Number of tokens `T`, routed or not. */
  readonly tokens: number;
  /** Number of experts `E`. */
  readonly experts: number;
  /** Int32Array `[E+1]`: expert `e` owns pairs `offsets[e] … offsets[e+1]`. */
  readonly offsets: Int32Array;
  /** Int32Array `[N]`: the token of each pair, strictly ascending inside an expert. */
  readonly token: Int32Array;
  /** Int32Array `[N]`: `token·E + expert` of each pair, its position in a flat `[T, E]`. */
  readonly source: Int32Array;
  /** Int32Array `[T+1]`: token `t` owns entries `tokenOffsets[t] … tokenOffsets[t+1]` of `slot`. */
  readonly tokenOffsets: Int32Array;
  /** Int32Array `[N]`: pair indices grouped by token, best expert first. */
  readonly slot: Int32Array;
  /** Uint8Array `[N]`: which neuron prefix of the expert a pair runs; absent when every pair runs the whole expert. */
  readonly prefix?: Uint8Array;
  /** Uint8Array `[N]`: 1 when the pair was in the original top-k; absent when all were. */
  readonly primary?: Uint8Array;
  /** Balance of this plan. */
  readonly stats: RouteStats;
}

/** {@link CapacityStats} as JSON. */
export interface CapacityStatsJson {
  /** `[E]`. */
  readonly preLoad: readonly number[];
  /** `[R]`. */
  readonly limit: readonly number[];
  /** Pairs of the dropless plan that are gone. */
  readonly dropped: number;
  /** Pairs that were not in the dropless plan. */
  readonly expanded: number;
  /** Tokens that had a pair and have none. */
  readonly orphans: number;
  /** Tokens by their number of pairs. */
  readonly perToken: readonly number[];
}

/** A plan as JSON: plain arrays, versioned. Of `stats` only `capacity` is in it: the rest is derived. */
export interface DispatchPlanJson {
  /** Version of this format. */
  readonly schemaVersion: 1;
  /** Number of tokens `T`. */
  readonly tokens: number;
  /** Number of experts `E`. */
  readonly experts: number;
  /** `[E+1]`. */
  readonly offsets: readonly number[];
  /** `[N]`. */
  readonly token: readonly number[];
  /** `[T+1]`. */
  readonly tokenOffsets: readonly number[];
  /** `[N]`. */
  readonly slot: readonly number[];
  /** `[N]`, when present on the plan. */
  readonly prefix?: readonly number[];
  /** `[N]`, when present on the plan. */
  readonly primary?: readonly number[];
  /** `stats.capacity`, when present on the plan. */
  readonly capacity?: CapacityStatsJson;
}

/**
 * Balance of a plan from its offsets.
 *
 * @param plan - the arrays of a plan; `stats` is not read
 * @returns fresh statistics; caller owns
 */
export function planStats(plan: Pick<DispatchPlan, 'experts' | 'offsets' | 'tokenOffsets'>): RouteStats {
  const { load, maxLoad, idleExperts, routedTokens } = measureLoad(plan.offsets, plan.tokenOffsets);
  const pairs = plan.offsets[plan.experts] ?? 0;
  return {
    pairs,
    routedTokens,
    load,
    maxLoad,
    idleExperts,
    imbalance: pairs === 0 ? 0 : (maxLoad * plan.experts) / pairs,
  };
}

/**
 * Checks every invariant of a plan: use it on plans that come from a plugin, a file or a peer.
 *
 * Lengths agree; both offset arrays ascend from 0 to N; tokens are in range and strictly ascend inside an expert (so no
 * pair is listed twice); `source` is `token·E + expert`; `slot` is a permutation of the pairs that lists each pair under
 * its own token; `stats` are those of the arrays. Cost O(T + E + N).
 *
 * @param plan - a plan of unknown origin
 * @throws `data` naming the first fault
 */
export function assertPlan(plan: DispatchPlan): void {
  const fault = checkPlan(plan);
  if (fault !== null) {
    throw new MoebiusError({
      code: 'data',
      message: `plan.${fault.subject}: ${fault.expectation}, got ${fault.value} (rebuild the plan with planTopK or planPairs)`,
      details: {
        subject: fault.subject,
        value: fault.value,
        tokens: Number(plan.tokens),
        experts: Number(plan.experts),
      },
    });
  }
}

/**
 * A plan as a JSON value.
 *
 * @param plan - a valid plan
 * @returns plain arrays and numbers; caller owns
 */
export function planToJson(plan: DispatchPlan): DispatchPlanJson {
  return {
    schemaVersion: 1,
    tokens: plan.tokens,
    experts: plan.experts,
    offsets: [...plan.offsets],
    token: [...plan.token],
    tokenOffsets: [...plan.tokenOffsets],
    slot: [...plan.slot],
    ...(plan.prefix === undefined ? {} : { prefix: [...plan.prefix] }),
    ...(plan.primary === undefined ? {} : { primary: [...plan.primary] }),
    ...(plan.stats.capacity === undefined ? {} : { capacity: capacityToJson(plan.stats.capacity) }),
  };
}

function capacityToJson(capacity: CapacityStats): CapacityStatsJson {
  const { preLoad, limit, perToken, ...counts } = capacity;
  return { ...counts, preLoad: [...preLoad], limit: [...limit], perToken: [...perToken] };
}

function readCapacity(value: unknown): CapacityStats {
  if (typeof value !== 'object' || value === null)
    throw formatFault('plan.capacity', 'must be an object', value);
  const json = value as Record<string, unknown>;
  return {
    preLoad: readIntegers(json, 'preLoad'),
    limit: readIntegers(json, 'limit'),
    dropped: readCount(json, 'dropped'),
    expanded: readCount(json, 'expanded'),
    orphans: readCount(json, 'orphans'),
    perToken: readIntegers(json, 'perToken'),
  };
}

/**
 * Reads a plan back from JSON and checks it as hostile input.
 *
 * @param value - what `JSON.parse` gave
 * @returns a plan that passed {@link assertPlan}; caller owns
 * @throws `format` when the value has not the shape of a plan, `data` when its integers contradict each other
 */
export function planFromJson(value: unknown): DispatchPlan {
  if (typeof value !== 'object' || value === null) throw formatFault('plan', 'must be an object', value);
  const json = value as Record<string, unknown>;
  if (json['schemaVersion'] !== 1)
    throw formatFault('plan.schemaVersion', 'must be 1', json['schemaVersion']);
  const tokens = readCount(json, 'tokens');
  const experts = readCount(json, 'experts');
  const offsets = readIntegers(json, 'offsets');
  const token = readIntegers(json, 'token');
  const tokenOffsets = readIntegers(json, 'tokenOffsets');
  const slot = readIntegers(json, 'slot');
  if (offsets.length !== experts + 1)
    throw formatFault('plan.offsets', `must have ${experts + 1} entries`, offsets.length);
  const source = sourceOf(offsets, token);
  const arrays = { tokens, experts, offsets, token, source, tokenOffsets, slot };
  const plan: DispatchPlan = {
    ...arrays,
    ...(json['prefix'] === undefined ? {} : { prefix: readBytes(json, 'prefix') }),
    ...(json['primary'] === undefined ? {} : { primary: readBytes(json, 'primary') }),
    stats: {
      ...planStats(arrays),
      ...(json['capacity'] === undefined ? {} : { capacity: readCapacity(json['capacity']) }),
    },
  };
  assertPlan(plan);
  return plan;
}

function sourceOf(offsets: Int32Array, token: Int32Array): Int32Array {
  const experts = offsets.length - 1;
  let expert = 0;
  return token.map((t, pair) => {
    while (expert < experts - 1 && pair >= (offsets[expert + 1] ?? 0)) expert += 1;
    return t * experts + expert;
  });
}

function readCount(json: Record<string, unknown>, key: string): number {
  const value = json[key];
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 0x7fff_ffff) {
    throw formatFault(`plan.${key}`, 'must be an integer of at least 0', value);
  }
  return value as number;
}

function readIntegers(json: Record<string, unknown>, key: string): Int32Array {
  return Int32Array.from(readNumbers(json, key, -0x8000_0000, 0x7fff_ffff));
}

function readBytes(json: Record<string, unknown>, key: string): Uint8Array {
  return Uint8Array.from(readNumbers(json, key, 0, 255));
}

function readNumbers(json: Record<string, unknown>, key: string, low: number, high: number): number[] {
  const value = json[key];
  if (!Array.isArray(value)) throw formatFault(`plan.${key}`, 'must be an array of integers', value);
  for (const entry of value) {
    if (!Number.isInteger(entry) || entry < low || entry > high) {
      throw formatFault(`plan.${key}`, `must hold integers from ${low} to ${high}`, entry);
    }
  }
  return value as number[];
}

function formatFault(subject: string, expectation: string, value: unknown): MoebiusError {
  const got = typeof value === 'number' ? String(value) : value === null ? 'null' : typeof value;
  return new MoebiusError({
    code: 'format',
    message: `${subject}: ${expectation}, got ${got} (write plans with planToJson)`,
    details: { subject, got },
  });
}
