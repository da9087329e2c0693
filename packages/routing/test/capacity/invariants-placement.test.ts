/** The invariants of the specification (capacity-aware.md §8), 9 to 16, each at least a thousand cases. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { capacityPolicy, parseCapacityConfig, planCapacity } from '../../src/index.ts';
import type { DispatchPlan } from '../../src/index.ts';
import { capacityCases, cellOf, dropless, hostOf, isSubset, loads, pairs, plan, settings } from './cases.ts';
import type { CapacityCase } from './cases.ts';

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

describe('invariants of expansion, devices, classes and padding', () => {
  it('9: Expanded Drop with primary-first contains Token Drop; by score it keeps at least as many pairs in every column', () => {
    fc.assert(
      fc.property(capacityCases, settings, fc.constantFrom('local', 'top-m'), (given, base, kind) => {
        const dropped = plan(given, { method: 'drop', ...base });
        const expanded = { method: 'drop', ...base, ...expandOf(kind, given) };
        expect(isSubset(dropped, plan(given, { ...expanded, priority: 'primary-first' }))).toBe(true);
        const [less, more] = [
          loads(given, base.scope, dropped).flat(),
          loads(given, base.scope, plan(given, expanded)).flat(),
        ];
        for (const [at, count] of less.entries()) holds(more[at]! >= count, `column ${at}`);
      }),
      runs,
    );
  });

  it('9: by score alone an added pair can evict a primary one, which the paper says cannot happen', () => {
    // Two devices. Token 0 lives with expert 0 and scores it .40 without choosing it; token 1 of the same device chose it with .39.
    const scores = Float32Array.of(
      0.4,
      0.1,
      0.5,
      0,
      0.39,
      0.3,
      0.2,
      0.11,
      0.1,
      0.2,
      0.3,
      0.4,
      0.1,
      0.2,
      0.3,
      0.4,
    );
    const given = { scores, experts: 4, topK: 1, devices: 2 };
    const config = { method: 'drop', gamma: 1, expand: { kind: 'local' } };
    expect(pairs(plan(given, { method: 'drop', gamma: 1 }))).toContain(4);
    expect(pairs(plan(given, config))).not.toContain(4);
    expect(pairs(plan(given, { ...config, priority: 'primary-first' }))).toContain(4);
  });

  it('10: added pairs are local, a token has at most k + m experts, and no more pairs cross devices', () => {
    fc.assert(
      fc.property(
        capacityCases,
        settings,
        fc.constantFrom('score', 'primary-first', 'best-first'),
        (given, base, priority) => {
          const crossing = (of: DispatchPlan): number =>
            [...of.source].filter(
              (pair) =>
                hostOf(given, pair % given.experts) !==
                cellOf(given, 'rank', Math.floor(pair / given.experts)),
            ).length;
          const got = plan(given, { method: 'drop', ...base, priority, expand: { kind: 'local' } });
          for (const [n, pair] of got.source.entries()) {
            if (got.primary === undefined || got.primary[n] === 1) continue;
            expect(hostOf(given, pair % given.experts)).toBe(
              cellOf(given, 'rank', Math.floor(pair / given.experts)),
            );
          }
          expect(got.stats.capacity!.perToken.length - 1).toBeLessThanOrEqual(
            given.topK + given.experts / given.devices,
          );
          expect(crossing(got)).toBeLessThanOrEqual(crossing(dropless(given)));
        },
      ),
      runs,
    );
  });

  it('11: a device stays in its budget, holds what the expert-level cap keeps, and keeps at least as many pairs', () => {
    fc.assert(
      fc.property(capacityCases, settings, (given, base) => {
        const byExpert = plan(given, { method: 'drop', ...base });
        const byDevice = plan(given, { method: 'drop', ...base, granularity: 'device' });
        const hosted = given.experts / given.devices;
        const onDevices = (of: DispatchPlan): number[][] =>
          loads(given, base.scope, of).map((row) =>
            Array.from({ length: given.devices }, (_, d) =>
              row.reduce((sum, count, e) => sum + (hostOf(given, e) === d ? count : 0), 0),
            ),
          );
        for (const got of [byExpert, byDevice]) {
          for (const [cell, row] of onDevices(got).entries()) {
            const budget = hosted * byDevice.stats.capacity!.limit[cell]!;
            for (const count of row) expect(count).toBeLessThanOrEqual(budget);
          }
        }
        expect(byDevice.stats.pairs).toBeGreaterThanOrEqual(byExpert.stats.pairs);
      }),
      runs,
    );
  });

  it('12: scope rank is each shard alone, put together', () => {
    fc.assert(
      fc.property(capacityCases, settings, expansions, (given, base, kind) => {
        fc.pre(base.key !== 'random');
        const config = parseCapacityConfig({
          method: 'drop',
          ...base,
          scope: 'rank',
          placement: { devices: given.devices },
          ...expandOf(kind, given),
        });
        const { experts, topK, devices, tokens } = given;
        const shard = tokens / devices;
        const alone = Array.from({ length: devices }, (_, d) => {
          const scores = given.scores.subarray(d * shard * experts, (d + 1) * shard * experts);
          const deviceOf = new Int32Array(shard).fill(d);
          const got = planCapacity(scores, { experts, topK, policy: capacityPolicy(config), deviceOf });
          return pairs(got).map((pair) => pair + d * shard * experts);
        });
        expect(pairs(plan(given, config))).toEqual(alone.flat());
      }),
      runs,
    );
  });

  it('13: random is the same whatever was planned before, and differs by seed, layer and step', () => {
    const config = { method: 'drop', gamma: 0.5, key: 'random' };
    fc.assert(
      fc.property(capacityCases, fc.nat(3), fc.nat(3), fc.nat(3), (given, seed, layer, step) => {
        const { experts, topK } = given;
        const policy = capacityPolicy(parseCapacityConfig({ ...config, seed }));
        const at = (place: { layer: number; step: number }): number[] =>
          pairs(planCapacity(given.scores, { experts, topK, policy, ...place }));
        const first = at({ layer, step });
        at({ layer: layer + 1, step });
        at({ layer, step: step + 1 });
        expect(at({ layer, step })).toEqual(first);
        expect(pairs(plan(given, { ...config, seed }, { layer, step }))).toEqual(first);
      }),
      runs,
    );
    const scores = new Float32Array(64 * 4).fill(0.25);
    const given = { scores, experts: 4, topK: 2, devices: 1 };
    const at = (seed: number, layer: number, step: number): string =>
      String(pairs(plan(given, { ...config, seed }, { layer, step })));
    expect(new Set([at(1, 0, 0), at(2, 0, 0), at(1, 1, 0), at(1, 0, 1)]).size).toBe(4);
  });

  it('15: in a column no pair of a protected class goes while one of a lower class stays', () => {
    fc.assert(
      fc.property(capacityCases, settings, expansions, (given, base, kind) => {
        const { tokenClass } = given;
        const config = { method: 'drop', ...base, ...expandOf(kind, given) };
        const got = plan(given, config, { tokenClass });
        const kept = new Set(got.source);
        const candidates = new Set([
          ...dropless(given).source,
          ...plan(given, { ...config, gamma: Infinity }).source,
        ]);
        for (const gone of candidates) {
          if (kept.has(gone)) continue;
          const token = Math.floor(gone / given.experts);
          for (const pair of kept) {
            const other = Math.floor(pair / given.experts);
            if (
              (pair - gone) % given.experts !== 0 ||
              cellOf(given, base.scope, other) !== cellOf(given, base.scope, token)
            )
              continue;
            holds(tokenClass[other]! >= tokenClass[token]!, `pair ${gone} before ${pair}`);
          }
        }
      }),
      runs,
    );
  });

  it('16: padding changes neither the caps nor what happens to real tokens', () => {
    fc.assert(
      fc.property(
        capacityCases,
        settings,
        expansions,
        fc.array(fc.nat(14), { maxLength: 6 }),
        (given, base, kind, before) => {
          const { experts, tokens, devices } = given;
          const scope = base.scope === 'sequence' ? 'rank' : base.scope;
          const config = { method: 'drop', ...base, scope, ...expandOf(kind, given) };
          const real = Array.from({ length: tokens }, (_, t) => t);
          const rows: number[] = real.flatMap((t) => [...before.filter((at) => at === t).map(() => -1), t]);
          rows.push(-1);
          const place = new Map([...rows.entries()].map(([row, t]) => [t, row]));
          const padded = {
            ...given,
            scores: Float32Array.from(
              rows.flatMap((t) =>
                t < 0
                  ? Array.from({ length: experts }, () => 1e9)
                  : [...given.scores.subarray(t * experts, (t + 1) * experts)],
              ),
            ),
          };
          const mask = Uint8Array.from(rows, (t) => (t < 0 ? 0 : 1));
          const deviceOf = Int32Array.from(rows, (t) => Math.floor((Math.max(0, t) * devices) / tokens));
          const context = {
            mask,
            deviceOf,
            sequences: 1,
            tokenClass: Int32Array.from(rows, (t) => (t < 0 ? 9 : given.tokenClass[t]!)),
          };
          const without = plan(given, config, { tokenClass: given.tokenClass });
          const got = plan(padded, config, context);
          expect(got.stats.capacity!.limit).toEqual(without.stats.capacity!.limit);
          const moved = pairs(without).map(
            (pair) => place.get(Math.floor(pair / experts))! * experts + (pair % experts),
          );
          expect(pairs(got)).toEqual(moved);
        },
      ),
      runs,
    );
  });
});
