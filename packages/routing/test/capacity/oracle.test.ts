import { createRng } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { assertPlan, capacityPolicy, parseCapacityConfig, planCapacity } from '../../src/index.ts';
import type { DispatchPlan, DropConfig, RerouteConfig } from '../../src/index.ts';
import { capacityCases, cellOf, distinctCases, hostOf, pairs, plan, settings } from './cases.ts';
import type { CapacityCase } from './cases.ts';
import { naiveCapacity, naiveDrop, naiveReroute } from './naive-capacity.ts';
import type { NaiveProblem } from './naive-capacity.ts';

const runs = { numRuns: 1000 };

function naiveProblem(
  given: CapacityCase,
  scope: 'global' | 'rank' | 'sequence',
  mask: Uint8Array,
): NaiveProblem {
  const { tokens, experts, topK } = given;
  const scores = Array.from({ length: tokens }, (_, t) => [
    ...given.scores.subarray(t * experts, (t + 1) * experts),
  ]);
  const device = Array.from({ length: tokens }, (_, t) => cellOf(given, 'rank', t));
  return {
    tokens,
    experts,
    scores,
    primary: scores.map((row, t) =>
      mask[t] === 0 ? [] : [...row.keys()].sort((a, b) => row[b]! - row[a]! || a - b).slice(0, topK),
    ),
    real: Array.from(mask, (kept) => kept !== 0),
    tokenClass: [...given.tokenClass],
    cell: device.map((d) => (scope === 'global' ? 0 : d)),
    deviceOf: device,
    hostOf: Array.from({ length: experts }, (_, e) => hostOf(given, e)),
  };
}

function maskOf(given: CapacityCase): Uint8Array {
  const rng = createRng([given.seed, 7]);
  return Uint8Array.from({ length: given.tokens }, () => (rng.integer(5) === 0 ? 0 : 1));
}

/** Scores of masked rows are NaN: whoever reads them is caught. */
function hideMasked(given: CapacityCase, mask: Uint8Array): CapacityCase {
  const scores = given.scores.slice();
  for (const [t, kept] of mask.entries())
    if (kept === 0) scores.fill(NaN, t * given.experts, (t + 1) * given.experts);
  return { ...given, scores };
}

describe('against lists and sorts', () => {
  it('drop: every key, scope, granularity, expansion, priority, bound, class, prune and mask', () => {
    const more = fc.record({
      granularity: fc.constantFrom('expert', 'device'),
      expandKind: fc.constantFrom('none', 'local', 'top-m'),
      m: fc.integer({ min: 1, max: 8 }),
      priority: fc.constantFrom('score', 'primary-first', 'best-first'),
      bound: fc.constantFrom(null, 1, 1.5),
      maxPerToken: fc.constantFrom(null, null, 1, 2),
      classes: fc.boolean(),
    });
    fc.assert(
      fc.property(capacityCases, settings, more, (given, base, extra) => {
        const m = Math.max(given.topK, Math.min(extra.m, given.experts));
        const config = parseCapacityConfig({
          method: 'drop',
          ...base,
          granularity: extra.granularity,
          priority: extra.priority,
          expand:
            extra.expandKind === 'none'
              ? null
              : extra.expandKind === 'local'
                ? { kind: 'local' }
                : { kind: 'top-m', m },
          expertBound: extra.granularity === 'device' ? extra.bound : null,
          maxPerToken: extra.maxPerToken === null ? null : Math.min(extra.maxPerToken, given.experts),
          placement: { devices: given.devices },
        }) as DropConfig;
        const mask = maskOf(given);
        const problem = naiveProblem(given, config.scope, mask);
        const context = { mask, ...(extra.classes ? { tokenClass: given.tokenClass } : {}) };
        const classless = { ...problem, tokenClass: problem.tokenClass.map(() => 0) };
        const got = plan(hideMasked(given, mask), config, context);
        assertPlan(got);
        expect(pairs(got)).toEqual(naiveDrop(extra.classes ? problem : classless, config));
      }),
      runs,
    );
  });

  it('reroute: every key, scope and number of rounds', () => {
    fc.assert(
      fc.property(capacityCases, settings, fc.integer({ min: 1, max: 5 }), (given, base, rounds) => {
        const placement = { devices: given.devices };
        const config = parseCapacityConfig({
          method: 'reroute',
          ...base,
          rounds,
          placement,
        }) as RerouteConfig;
        const mask = maskOf(given);
        const problem = { ...naiveProblem(given, config.scope, mask), tokenClass: Array.from(mask, () => 0) };
        const got = plan(hideMasked(given, mask), config, { mask });
        assertPlan(got);
        expect(pairs(got)).toEqual(naiveReroute(problem, config));
      }),
      runs,
    );
  });

  it('expert drop: the pairs of all experts but the least loaded ones', () => {
    fc.assert(
      fc.property(
        capacityCases,
        fc.constantFrom(0, 0.1, 0.25, 0.5, 1),
        fc.nat(1),
        (given, fraction, least) => {
          const minSkipped = Math.min(least, given.experts - 1);
          const got = plan(given, { method: 'expert-drop', fraction, minSkipped });
          const before = plan(given, { method: 'drop', gamma: Infinity });
          const order = [...before.stats.load.keys()].sort(
            (a, b) => before.stats.load[a]! - before.stats.load[b]! || b - a,
          );
          const skipped = order.slice(0, Math.max(Math.floor(fraction * given.experts), minSkipped));
          expect(pairs(got)).toEqual(pairs(before).filter((pair) => !skipped.includes(pair % given.experts)));
          assertPlan(got);
        },
      ),
      runs,
    );
  });

  it('capacity: rounding, minimum and clamp of every cell', () => {
    fc.assert(
      fc.property(capacityCases, settings, (given, base) => {
        const config = parseCapacityConfig({
          method: 'drop',
          ...base,
          placement: { devices: given.devices },
        }) as DropConfig;
        const mask = maskOf(given);
        const problem = naiveProblem(given, config.scope, mask);
        const got = plan(given, config, { mask });
        const cells = config.scope === 'global' ? 1 : given.devices;
        const expected = Array.from({ length: cells }, (_, cell) => naiveCapacity(problem, config, cell));
        expect([...got.stats.capacity!.limit]).toEqual(expected);
      }),
      runs,
    );
  });
});

const small = distinctCases.filter((given) => given.tokens * given.topK <= 10 && given.experts > 1);

function total(given: CapacityCase, list: Iterable<number>): number {
  let sum = 0;
  for (const pair of list) sum += given.scores[pair]!;
  return sum;
}

/** The largest Σ score over all subsets of `pool` that a test of loads admits. */
function bestSubset(
  given: CapacityCase,
  pool: readonly number[],
  fits: (subset: readonly number[]) => boolean,
): number {
  let best = 0;
  for (let bits = 0; bits < 2 ** pool.length; bits += 1) {
    const subset = pool.filter((_, i) => (bits >> i) & 1);
    if (total(given, subset) > best && fits(subset)) best = total(given, subset);
  }
  return best;
}

function countsBelow(
  list: readonly number[],
  of: (pair: number) => number,
  limit: (bucket: number) => number,
): boolean {
  const counts = new Map<number, number>();
  for (const pair of list) counts.set(of(pair), (counts.get(of(pair)) ?? 0) + 1);
  return [...counts].every(([bucket, count]) => count <= limit(bucket));
}

describe('against every subset (brute force)', () => {
  it('Token Drop by score keeps the largest sum of scores that the caps admit', () => {
    fc.assert(
      fc.property(small, fc.constantFrom(0.25, 0.5, 0.75, 1, 1.5), (given, gamma) => {
        const got = plan(given, { method: 'drop', gamma });
        const [limit] = got.stats.capacity!.limit;
        const pool = pairs(plan(given, { method: 'drop', gamma: Infinity }));
        const best = bestSubset(given, pool, (subset) =>
          countsBelow(
            subset,
            (pair) => pair % given.experts,
            () => limit!,
          ),
        );
        expect(total(given, got.source)).toBeCloseTo(best, 5);
      }),
      runs,
    );
  });

  it('the device-level cap with an expert bound keeps the largest sum that both limits admit', () => {
    fc.assert(
      fc.property(
        small,
        fc.constantFrom(0.25, 0.5, 1),
        fc.constantFrom(null, 1, 1.5),
        (given, gamma, expertBound) => {
          const config = { method: 'drop', gamma, granularity: 'device', expertBound };
          const got = plan(given, config);
          const [limit] = got.stats.capacity!.limit;
          const hosted = given.experts / given.devices;
          const pool = pairs(plan(given, { method: 'drop', gamma: Infinity }));
          const bound =
            expertBound === null
              ? Infinity
              : plan(given, { method: 'drop', gamma: gamma * expertBound }).stats.capacity!.limit[0]!;
          const best = bestSubset(
            given,
            pool,
            (subset) =>
              countsBelow(
                subset,
                (pair) => hostOf(given, pair % given.experts),
                () => hosted * limit!,
              ) &&
              countsBelow(
                subset,
                (pair) => pair % given.experts,
                () => bound,
              ),
          );
          expect(total(given, got.source)).toBeCloseTo(best, 5);
        },
      ),
      runs,
    );
  });

  it('maxPerToken prunes greedily: never above the best assignment, and below it in a case that is known', () => {
    const optimum = (given: CapacityCase, pool: readonly number[], limit: number, most: number): number =>
      bestSubset(
        given,
        pool,
        (subset) =>
          countsBelow(
            subset,
            (pair) => pair % given.experts,
            () => limit,
          ) &&
          countsBelow(
            subset,
            (pair) => Math.floor(pair / given.experts),
            () => most,
          ),
      );
    fc.assert(
      fc.property(small, fc.constantFrom(0.5, 1), fc.constantFrom(1, 2), (given, gamma, most) => {
        const maxPerToken = Math.min(most, given.experts);
        const got = plan(given, { method: 'drop', gamma, maxPerToken });
        const pool = pairs(plan(given, { method: 'drop', gamma: Infinity }));
        const best = optimum(given, pool, got.stats.capacity!.limit[0]!, maxPerToken);
        expect(total(given, got.source)).toBeLessThanOrEqual(best + 1e-6);
      }),
      runs,
    );
    // Expert 0 keeps token 0, expert 1 keeps token 0; pruning leaves one of them, and token 1 is not asked again.
    const scores = Float32Array.of(0.9, 0.8, 0.7, 0.6);
    const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 0.5, maxPerToken: 1 }));
    const greedy: DispatchPlan = planCapacity(scores, { experts: 2, topK: 2, policy });
    const given = {
      tokens: 2,
      experts: 2,
      topK: 2,
      devices: 1,
      scores,
      tokenClass: new Int32Array(2),
      seed: 0,
    };
    expect(pairs(greedy)).toEqual([0]);
    expect(optimum(given, [0, 1, 2, 3], 1, 1)).toBeCloseTo(0.9 + 0.6, 6);
  });
});
