/** The defects that the specification (capacity-aware.md §9) found in the authors' code, each by name: none of them is ours. */
import { createRng } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { assertPlan, capacityPolicy, parseCapacityConfig, planCapacity } from '../../src/index.ts';
import type { DispatchPlan } from '../../src/index.ts';
import { isSubset, pairs, plan } from './cases.ts';

const rng = createRng('bugs');
const [tokens, experts, topK, devices] = [256, 16, 4, 4];
/** Softmax of skewed logits. */
const scores = ((): Float32Array => {
  const values = new Float32Array(tokens * experts);
  for (let t = 0; t < tokens; t += 1) {
    const row = Array.from({ length: experts }, (_, e) => Math.exp(1.5 * rng.normal() + (e < 4 ? 1 : 0)));
    const sum = row.reduce((a, b) => a + b, 0);
    for (const [e, value] of row.entries()) values[t * experts + e] = value / sum;
  }
  return values;
})();
const given = { scores, experts, topK, devices };
const whole = plan(given, { method: 'drop', gamma: Infinity });
const capped = (config: object): DispatchPlan => plan(given, { method: 'drop', gamma: 1, ...config });
const overflow = (limit: number): number =>
  [...whole.stats.load].reduce((sum, load) => sum + Math.max(load - limit, 0), 0);

describe("the authors' bugs", () => {
  it('a patch that restored every dropped slot: what is dropped stays dropped', () => {
    const got = capped({});
    expect(overflow(64)).toBeGreaterThan(100);
    expect(got.stats.capacity!.dropped).toBe(overflow(64));
    expect(got.stats.pairs).toBe(tokens * topK - overflow(64));
  });

  it('flags read in expert order but applied to slots in score order: the cap holds, and the right experts lose tokens', () => {
    for (const key of ['score', 'order', 'reverse', 'random']) {
      const got = capped({ key });
      for (const [e, load] of got.stats.load.entries()) expect(load).toBe(Math.min(whole.stats.load[e]!, 64));
    }
  });

  it('first and last that meant opposite things: order keeps the first tokens of a column, reverse the last', () => {
    const busiest = whole.stats.load.indexOf(whole.stats.maxLoad);
    const column = (of: DispatchPlan): number[] => [
      ...of.token.subarray(of.offsets[busiest], of.offsets[busiest + 1]),
    ];
    expect(column(capped({ key: 'order' }))).toEqual(column(whole).slice(0, 64));
    expect(column(capped({ key: 'reverse' }))).toEqual(column(whole).slice(-64));
  });

  it('expansion that was global in one process: added experts are hosted on the token’s own device', () => {
    const got = capped({ expand: { kind: 'local' }, scope: 'rank' });
    expect(got.stats.capacity!.expanded).toBeGreaterThan(0);
    for (const [n, pair] of got.source.entries()) {
      if (got.primary![n] === 1) continue;
      expect(Math.floor((pair % experts) / (experts / devices))).toBe(
        Math.floor(Math.floor(pair / experts) / (tokens / devices)),
      );
    }
    // Global expansion would fill every expert to its cap.
    expect(new Set(got.stats.load).size).toBeGreaterThan(1);
  });

  it('an integer factor that was silently ignored: 1 is a factor', () => {
    expect(pairs(capped({ gamma: 1 }))).toEqual(pairs(capped({ gamma: 1.0 })));
    expect(capped({ gamma: 1 }).stats.pairs).toBeLessThan(whole.stats.pairs);
  });

  it('a cap above the number of tokens that threw: it is clamped, also with expansion', () => {
    const mixtral = { scores: Float32Array.of(0.6, 0.4, 0.7, 0.3), experts: 2, topK: 2, devices: 1 };
    for (const expand of [null, { kind: 'local' }, { kind: 'top-m', m: 2 }]) {
      const got = plan(mixtral, { method: 'drop', gamma: 5, expand });
      expect([...got.stats.capacity!.limit]).toEqual([2]);
      expect(got.stats.pairs).toBe(4);
    }
  });

  it('dropped slots mapped to expert 0, whose count became undefined: a token that keeps expert 0 and loses another one', () => {
    // Token 1 keeps expert 0 and loses expert 2 to token 0.
    const small = Float32Array.of(0.1, 0.4, 0.5, 0.45, 0.15, 0.4);
    const got = planCapacity(small, {
      experts: 3,
      topK: 2,
      policy: capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 0.75 })),
    });
    assertPlan(got);
    expect(pairs(got)).toEqual([1, 2, 3]);
    expect([...got.offsets]).toEqual([0, 1, 2, 3]);
  });

  it('a sentinel expert one past the end: no id of any plan is out of range, whatever key and expansion are combined', () => {
    for (const key of ['score', 'order', 'reverse', 'random']) {
      for (const expand of [null, { kind: 'local' }, { kind: 'top-m', m: 8 }])
        assertPlan(capped({ key, expand, scope: 'rank', gamma: 0.5 }));
    }
  });

  it('duplicate experts after over-selection: no pair is listed twice', () => {
    const got = capped({ expand: { kind: 'top-m', m: 12 }, gamma: 2 });
    expect(new Set(got.source).size).toBe(got.source.length);
  });

  it('padding that was counted and competed for slots: it does neither', () => {
    const padded = new Float32Array(2 * scores.length);
    padded.set(scores);
    for (let t = tokens; t < 2 * tokens; t += 1) padded[t * experts] = 1;
    const mask = Uint8Array.from({ length: 2 * tokens }, (_, t) => (t < tokens ? 1 : 0));
    const got = plan({ ...given, scores: padded }, { method: 'drop', gamma: 1 }, { mask, sequences: 1 });
    expect(pairs(got)).toEqual(pairs(capped({})));
  });

  it('a batch of one-token sequences that was capped as a prefill: decoding is a phase, not a guess from sizes', () => {
    const decode = plan(given, { method: 'drop', gamma: 0 }, { phase: 'decode', sequences: tokens });
    expect(decode.stats.pairs).toBe(whole.stats.pairs);
    expect(plan(given, { method: 'drop', gamma: 0, applyTo: 'both' }, { phase: 'decode' }).stats.pairs).toBe(
      0,
    );
  });

  it('modalities told apart by subtracting 1 from scores, which tie at 0: classes are compared before scores', () => {
    // The protected token has score 0, the sacrificed one 1: subtraction makes both 0.
    const edge = Float32Array.of(1, 0, 0, 1);
    const mixed = { scores: edge, experts: 2, topK: 2, devices: 1 };
    const got = plan(mixed, { method: 'drop', gamma: 0.5 }, { tokenClass: Int32Array.of(0, 1) });
    expect(pairs(got)).toEqual([2, 3]);
  });

  it('a threshold that keeps every tie: the cap holds when all scores are equal', () => {
    const equal = { ...given, scores: new Float32Array(tokens * experts).fill(1 / experts) };
    const got = plan(equal, { method: 'drop', gamma: 1 });
    expect(got.stats.maxLoad).toBe(64);
    expect([...got.token.subarray(0, 64)]).toEqual(Array.from({ length: 64 }, (_, t) => t));
  });

  it('skipped experts that returned their input: their pairs are gone', () => {
    const got = plan(given, { method: 'expert-drop', fraction: 0.25 });
    expect(isSubset(got, whole)).toBe(true);
    expect(got.stats.idleExperts).toBe(4);
  });
});
