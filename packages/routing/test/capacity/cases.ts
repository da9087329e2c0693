import { createRng } from '@moebius/core';
import fc from 'fast-check';

import { capacityPolicy, parseCapacityConfig, planCapacity } from '../../src/index.ts';
import type { DispatchPlan, TokenContext } from '../../src/index.ts';

/** A batch of scores with everything a policy may ask about it. */
export interface CapacityCase {
  readonly tokens: number;
  readonly experts: number;
  readonly topK: number;
  /** Divides experts and tokens. */
  readonly devices: number;
  /** `[T, E]`. */
  readonly scores: Float32Array;
  /** `[T]`, small classes. */
  readonly tokenClass: Int32Array;
  readonly seed: number;
}

/** Settings of a capped plan that vary freely. */
export interface Settings {
  readonly gamma: number;
  readonly key: 'score' | 'order' | 'reverse' | 'random';
  readonly rounding: 'ceil' | 'floor' | 'round';
  readonly scope: 'global' | 'rank' | 'sequence';
  readonly minCapacity: number;
  readonly seed: number;
}

const drawn = fc.record({
  seed: fc.nat(1e9),
  devices: fc.constantFrom(1, 1, 2, 3),
  perDevice: fc.integer({ min: 1, max: 4 }),
  shard: fc.integer({ min: 1, max: 5 }),
  k: fc.integer({ min: 1, max: 4 }),
  ties: fc.boolean(),
});

/** Up to 15 tokens, 12 experts, 3 devices; scores are multiples of 1/64 with many ties, or all different. */
export const capacityCases: fc.Arbitrary<CapacityCase> = drawn.map((entry) => buildCase(entry));

/** As {@link capacityCases}, no two scores equal. */
export const distinctCases: fc.Arbitrary<CapacityCase> = drawn.map((entry) =>
  buildCase({ ...entry, ties: false }),
);

/** Any capped setting; γ·mean seldom an integer. */
export const settings: fc.Arbitrary<Settings> = fc.record({
  gamma: fc.constantFrom(0, 0.25, 0.4, 0.5, 0.75, 1, 1.1, 1.25, 1.5, 2, 3, Infinity),
  key: fc.constantFrom('score', 'order', 'reverse', 'random'),
  rounding: fc.constantFrom('ceil', 'floor', 'round'),
  scope: fc.constantFrom('global', 'rank', 'sequence'),
  minCapacity: fc.constantFrom(0, 0, 0, 1, 2),
  seed: fc.nat(5),
});

function buildCase(entry: {
  seed: number;
  devices: number;
  perDevice: number;
  shard: number;
  k: number;
  ties: boolean;
}): CapacityCase {
  const { devices, seed } = entry;
  const experts = devices * entry.perDevice;
  const tokens = devices * entry.shard;
  const rng = createRng(seed);
  const order = Int32Array.from({ length: tokens * experts }, (_, i) => i);
  rng.shuffle(order);
  const scores = Float32Array.from(order, (place) =>
    entry.ties ? rng.integer(6) / 64 : (place + 1) / (tokens * experts + 1),
  );
  return {
    tokens,
    experts,
    topK: Math.min(entry.k, experts),
    devices,
    scores,
    tokenClass: Int32Array.from({ length: tokens }, () => rng.integer(3) - 1),
    seed,
  };
}

/** Plans a case: sequences are the devices' shards, unless `context` says otherwise. */
export function plan(
  given: Pick<CapacityCase, 'scores' | 'experts' | 'topK' | 'devices'>,
  config: object,
  context: TokenContext = {},
): DispatchPlan {
  const placement =
    'method' in config && config.method === 'expert-drop' ? {} : { placement: { devices: given.devices } };
  const policy = capacityPolicy(parseCapacityConfig({ ...placement, ...config }));
  const { experts, topK, devices } = given;
  return planCapacity(given.scores, { experts, topK, policy, sequences: devices, ...context });
}

/** The plan without any cap. */
export function dropless(given: CapacityCase, context: TokenContext = {}): DispatchPlan {
  return plan(given, { method: 'drop', gamma: Infinity }, context);
}

/** `token·E + expert` of every pair, ascending. */
export function pairs(of: DispatchPlan): number[] {
  return [...of.source].sort((a, b) => a - b);
}

/** Whether every pair of `inner` is one of `outer`. */
export function isSubset(inner: DispatchPlan, outer: DispatchPlan): boolean {
  const all = new Set(outer.source);
  return [...inner.source].every((pair) => all.has(pair));
}

/** Cell of each token, `devices` cells unless global. */
export function cellOf(given: CapacityCase, scope: Settings['scope'], token: number): number {
  return scope === 'global' ? 0 : Math.floor((token * given.devices) / given.tokens);
}

/** Pairs of a plan as `loads[cell][expert]`. */
export function loads(given: CapacityCase, scope: Settings['scope'], of: DispatchPlan): number[][] {
  const cells = scope === 'global' ? 1 : given.devices;
  const table = Array.from({ length: cells }, () => Array.from({ length: given.experts }, () => 0));
  for (const pair of of.source) {
    const row = table[cellOf(given, scope, Math.floor(pair / given.experts))]!;
    row[pair % given.experts] = row[pair % given.experts]! + 1;
  }
  return table;
}

/** Device that hosts an expert in the default placement. */
export function hostOf(given: CapacityCase, expert: number): number {
  return Math.floor((expert * given.devices) / given.experts);
}
