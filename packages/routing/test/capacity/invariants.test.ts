/** The invariants of the specification (capacity-aware.md §8), 1 to 8 and ours, each at least a thousand cases. */
import { createRng } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { assertPlan, capacityPolicy, parseCapacityConfig, planCapacity } from '../../src/index.ts';
import type { DispatchPlan } from '../../src/index.ts';
import {
  capacityCases,
  cellOf,
  distinctCases,
  dropless,
  isSubset,
  loads,
  pairs,
  plan,
  settings,
} from './cases.ts';
import type { CapacityCase, Settings } from './cases.ts';

const runs = { numRuns: 1000 };

/** A cheap expectation for inner loops. */
function holds(condition: boolean, what: string): void {
  if (!condition) throw new Error(`must hold: ${what}`);
}

const expansions = fc.constantFrom('none', 'local', 'top-m');

function expandOf(kind: string, given: CapacityCase): object {
  if (kind === 'none') return { expand: null };
  return {
    expand:
      kind === 'local' ? { kind: 'local' } : { kind: 'top-m', m: Math.min(given.experts, given.topK + 2) },
  };
}

/** Lexicographic comparison of a pair's key, larger is better. */
function keyOf(given: CapacityCase, key: Settings['key'], pair: number): number {
  const token = Math.floor(pair / given.experts);
  if (key === 'score') return given.scores[pair]!;
  return key === 'order' ? -token : token;
}

describe('invariants of capacity plans', () => {
  it('1: γ = ∞, or a cap that no load exceeds, gives the dropless plan', () => {
    fc.assert(
      fc.property(capacityCases, settings, (given, base) => {
        const whole = dropless(given);
        const enough = Math.max(...loads(given, base.scope, whole).flat());
        for (const limit of [{ gamma: Infinity }, { gamma: 0, minCapacity: enough }]) {
          const got = plan(given, { method: 'drop', ...base, ...limit });
          for (const part of ['offsets', 'token', 'source', 'tokenOffsets', 'slot'] as const)
            holds(String(got[part]) === String(whole[part]), part);
          expect(got.primary).toBeUndefined();
          expect(got.stats.capacity).toMatchObject({ dropped: 0, expanded: 0, orphans: 0 });
        }
      }),
      runs,
    );
  });

  it('2: γ = 0 gives an empty plan', () => {
    fc.assert(
      fc.property(capacityCases, settings, expansions, (given, base, kind) => {
        const zero = { ...base, gamma: 0, minCapacity: 0 };
        for (const got of [
          plan(given, { method: 'drop', ...zero, ...expandOf(kind, given) }),
          plan(given, { method: 'reroute', ...zero }),
        ]) {
          expect(got.stats.pairs).toBe(0);
          expect(got.stats.capacity!.orphans).toBe(given.tokens);
          expect([...got.stats.capacity!.perToken]).toEqual([given.tokens]);
        }
      }),
      runs,
    );
  });

  it('3 and 4: no expert of a cell is above its cap, for every key, expansion and number of reroute rounds, under ties', () => {
    fc.assert(
      fc.property(
        capacityCases,
        settings,
        expansions,
        fc.integer({ min: 1, max: 6 }),
        (given, base, kind, rounds) => {
          const plans = [
            plan(given, { method: 'drop', ...base, ...expandOf(kind, given) }),
            plan(given, { method: 'reroute', ...base, rounds }),
          ];
          for (const got of plans) {
            assertPlan(got);
            for (const [cell, row] of loads(given, base.scope, got).entries())
              expect(Math.max(...row)).toBeLessThanOrEqual(got.stats.capacity!.limit[cell]!);
          }
        },
      ),
      runs,
    );
  });

  it('3: with a batch smaller than the experts, one token, and experts that do not divide the tokens', () => {
    for (const [tokens, experts] of [
      [1, 1],
      [1, 7],
      [3, 8],
      [7, 3],
      [5, 4],
    ] as const) {
      fc.assert(
        fc.property(fc.nat(1e6), settings, (seed, base) => {
          const rng = createRng(seed);
          const scores = Float32Array.from({ length: tokens * experts }, () => rng.integer(4) / 8);
          const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', ...base, scope: 'global' }));
          const got = planCapacity(scores, { experts, topK: Math.min(2, experts), policy });
          expect(got.stats.maxLoad).toBeLessThanOrEqual(got.stats.capacity!.limit[0]!);
          assertPlan(got);
        }),
        { numRuns: 200 },
      );
    }
  });

  it('5: Token Drop removes from over-full columns exactly what is too much, and touches no other', () => {
    fc.assert(
      fc.property(capacityCases, settings, (given, base) => {
        const whole = dropless(given);
        const got = plan(given, { method: 'drop', ...base });
        expect(isSubset(got, whole)).toBe(true);
        const [before, after] = [loads(given, base.scope, whole), loads(given, base.scope, got)];
        let removed = 0;
        for (const [cell, row] of before.entries()) {
          const limit = got.stats.capacity!.limit[cell]!;
          for (const [e, count] of row.entries()) {
            expect(after[cell]![e]).toBe(Math.min(count, limit));
            removed += Math.max(count - limit, 0);
          }
        }
        expect(got.stats.capacity!.dropped).toBe(removed);
        // §2.2: the drop ratio of the integer cap is exact.
        expect(1 - got.stats.pairs / whole.stats.pairs).toBeCloseTo(removed / whole.stats.pairs, 12);
      }),
      runs,
    );
  });

  it('6: in a capped column every kept key is above every dropped one', () => {
    fc.assert(
      fc.property(capacityCases, settings, (given, base) => {
        fc.pre(base.key !== 'random');
        const whole = dropless(given);
        const got = plan(given, { method: 'drop', ...base });
        const kept = new Set(got.source);
        for (const dropped of whole.source) {
          if (kept.has(dropped)) continue;
          const token = Math.floor(dropped / given.experts);
          for (const pair of got.source) {
            const other = Math.floor(pair / given.experts);
            const sameColumn =
              (pair - dropped) % given.experts === 0 &&
              cellOf(given, base.scope, other) === cellOf(given, base.scope, token);
            if (!sameColumn) continue;
            const difference = keyOf(given, base.key, pair) - keyOf(given, base.key, dropped);
            holds(difference > 0 || (difference === 0 && other < token), `pair ${pair} before ${dropped}`);
          }
        }
      }),
      runs,
    );
  });

  it('7: by score, permuted tokens give the permuted plan; reversed tokens swap order and reverse', () => {
    fc.assert(
      fc.property(distinctCases, settings, fc.nat(1e6), (given, base, seed) => {
        const order = Int32Array.from({ length: given.tokens }, (_, t) => t);
        createRng(seed).shuffle(order);
        const permute = (places: Int32Array): CapacityCase => ({
          ...given,
          scores: Float32Array.from(given.scores, (_, i) => {
            const [t, e] = [Math.floor(i / given.experts), i % given.experts];
            return given.scores[places[t]! * given.experts + e]!;
          }),
        });
        const global = { ...base, scope: 'global' as const };
        const back = (got: DispatchPlan, places: Int32Array): number[] =>
          pairs(got)
            .map((pair) => places[Math.floor(pair / given.experts)]! * given.experts + (pair % given.experts))
            .sort((a, b) => a - b);
        const byScore = { method: 'drop', ...global, key: 'score' };
        expect(back(plan(permute(order), byScore), order)).toEqual(pairs(plan(given, byScore)));
        const reversed = Int32Array.from({ length: given.tokens }, (_, t) => given.tokens - 1 - t);
        const byOrder = plan(permute(reversed), { method: 'drop', ...global, key: 'order' });
        expect(back(byOrder, reversed)).toEqual(
          pairs(plan(given, { method: 'drop', ...global, key: 'reverse' })),
        );
      }),
      runs,
    );
  });

  it('8: a larger γ keeps every pair of a smaller one', () => {
    const gammas = fc.tuple(
      fc.double({ min: 0, max: 4, noNaN: true }),
      fc.double({ min: 0, max: 4, noNaN: true }),
    );
    fc.assert(
      fc.property(capacityCases, settings, gammas, expansions, (given, base, [a, b], kind) => {
        const at = (gamma: number): DispatchPlan =>
          plan(given, { method: 'drop', ...base, gamma, ...expandOf(kind, given) });
        expect(isSubset(at(Math.min(a, b)), at(Math.max(a, b)))).toBe(true);
      }),
      runs,
    );
  });

  it('best-first: a token loses its best pair only to the best pairs of others', () => {
    fc.assert(
      fc.property(capacityCases, settings, (given, base) => {
        const whole = dropless(given);
        const got = plan(given, { method: 'drop', ...base, priority: 'best-first' });
        const kept = new Set(got.source);
        const bestOf = (t: number): number => whole.source[whole.slot[whole.tokenOffsets[t]!]!]!;
        for (let t = 0; t < given.tokens; t += 1) {
          const best = bestOf(t);
          if (kept.has(best)) continue;
          for (const pair of kept) {
            const other = Math.floor(pair / given.experts);
            if (
              (pair - best) % given.experts !== 0 ||
              cellOf(given, base.scope, other) !== cellOf(given, base.scope, t)
            )
              continue;
            holds(pair === bestOf(other), `pair ${pair} before ${best}`);
          }
        }
      }),
      runs,
    );
  });

  it('reused scratch never reaches a plan: earlier plans stay as they were', () => {
    fc.assert(
      fc.property(fc.array(capacityCases, { minLength: 2, maxLength: 4 }), settings, (list, base) => {
        const policy = capacityPolicy(
          parseCapacityConfig({
            method: 'drop',
            ...base,
            scope: 'global',
            expand: { kind: 'top-m', m: 1 },
            maxPerToken: 1,
          }),
        );
        const made = list.map(({ scores, experts }) => planCapacity(scores, { experts, topK: 1, policy }));
        const copies = structuredClone(made);
        for (const { scores, experts } of list.toReversed())
          planCapacity(scores, { experts, topK: 1, policy });
        expect(made).toEqual(copies);
      }),
      runs,
    );
  });
});
