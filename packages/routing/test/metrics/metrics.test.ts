import { isMoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { capacityPolicy, parseCapacityConfig, planCapacity, planPairs, planTopK } from '../../src/index.ts';
import {
  addRouting,
  countRouting,
  describeRouting,
  expertSimilarity,
  measureStickiness,
} from '../../src/metrics/index.ts';
import { offsetsOf, raggedChoices } from '../arbitraries.ts';

const messageOf = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return isMoebiusError(error) ? error.message : String(error);
  }
  return 'nothing thrown';
};

/** Three tokens over four experts: 0 and 1, 0 and 2, and one that has none. */
const plan = planPairs(Int32Array.of(0, 1, 2, 0), { experts: 4, tokenOffsets: Int32Array.of(0, 2, 4, 4) });

describe('routing metrics', () => {
  it('worked by hand: two tokens with pairs, one without', () => {
    const scores = [0.5, 0.5, 0, 0, 2, 0, 2, 0, 1, 1, 1, 1];
    const metrics = describeRouting(countRouting(plan, { scores }));
    expect([...metrics.loadShare]).toEqual([0.5, 0.25, 0.25, 0]);
    expect(metrics.imbalance).toBe(2);
    expect(metrics.loadVariation).toBe(0.5);
    expect(metrics.loadEntropy).toBeCloseTo((1.5 * Math.log(2)) / Math.log(4), 12);
    expect(metrics.deadExperts).toEqual([3]);
    expect(metrics.pairsPerToken).toBeCloseTo(4 / 3, 12);
    expect(metrics.fractionDropped).toBe(0);
    expect(metrics.fractionUnrouted).toBeCloseTo(1 / 3, 12);
    expect([...metrics.importance]).toEqual([1.25 / 3, 0.75 / 3, 0.75 / 3, 0.25 / 3]);
    expect(metrics.entropy).toBeCloseTo((2 * Math.log(2) + Math.log(4)) / 3, 12);
    expect(metrics.confidence).toBeCloseTo((0.5 + 0.5 + 0.25) / 3, 12);
    expect([...metrics.coActivation]).toEqual([1, 0.5, 0.5, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
  });

  it('a capacity policy: what was dropped, added and orphaned', () => {
    const scores = Float32Array.of(0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4);
    const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 1 }));
    const capped = planCapacity(scores, { experts: 2, topK: 1, policy });
    const totals = countRouting(capped);
    expect([...totals.preLoad]).toEqual([4, 0]);
    expect([...totals.load]).toEqual([2, 0]);
    expect([totals.dropped, totals.expanded, totals.orphans]).toEqual([2, 0, 2]);
    expect(describeRouting(totals).fractionDropped).toBe(0.5);
    expect(describeRouting(totals).fractionUnrouted).toBe(0.5);
  });

  it('padding is left out, whatever its scores are', () => {
    const masked = planTopK(Int32Array.of(0, 1), {
      tokens: 2,
      experts: 2,
      topK: 1,
      mask: Uint8Array.of(1, 0),
    });
    const mask = Uint8Array.of(1, 0);
    const totals = countRouting(masked, { scores: [0.5, 0.5, NaN, -1], mask });
    expect(totals.tokens).toBe(1);
    expect(totals.scoredTokens).toBe(1);
    expect(describeRouting(totals).fractionUnrouted).toBe(0);
  });

  it('nothing gives zeros', () => {
    const none = planTopK(new Int32Array(2), { tokens: 2, experts: 2, topK: 1, mask: new Uint8Array(2) });
    const metrics = describeRouting(countRouting(none, { mask: new Uint8Array(2) }));
    expect(metrics).toEqual({
      loadShare: Float64Array.of(0, 0),
      imbalance: 0,
      loadVariation: 0,
      loadEntropy: 0,
      deadExperts: [0, 1],
      pairsPerToken: 0,
      fractionDropped: 0,
      fractionUnrouted: 0,
      importance: Float64Array.of(0, 0),
      entropy: 0,
      confidence: 0,
      coActivation: new Float64Array(4),
    });
  });

  it('adds up: totals of two batches are the totals of both in one', () => {
    fc.assert(
      fc.property(raggedChoices, fc.nat(10), ({ experts, lists }, cut) => {
        const scores = lists.flatMap((list, t) =>
          Array.from({ length: experts }, (_, e) => (list.includes(e) ? 2 : 1) + ((t * 7 + e * 3) % 5)),
        );
        const totalsOf = (part: number[][], from: number): ReturnType<typeof countRouting> =>
          countRouting(planPairs(Int32Array.from(part.flat()), { experts, tokenOffsets: offsetsOf(part) }), {
            scores: scores.slice(from * experts, (from + part.length) * experts),
          });
        const at = Math.min(cut, lists.length);
        const sum = addRouting(totalsOf(lists.slice(0, at), 0), totalsOf(lists.slice(at), at));
        const whole = totalsOf(lists, 0);
        for (const [name, value] of Object.entries(whole)) {
          const got = sum[name as keyof typeof sum];
          if (typeof value === 'number') expect(got).toBeCloseTo(value, 9);
          else
            for (const [i, entry] of value.entries()) expect((got as Float64Array)[i]).toBeCloseTo(entry, 9);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('bounds: imbalance in 1…E, entropies and confidence in theirs, a co-activation row has its own expert', () => {
    fc.assert(
      fc.property(raggedChoices, ({ experts, lists }) => {
        const ragged = planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets: offsetsOf(lists) });
        const scores = Array.from({ length: lists.length * experts }, (_, i) => (i * i) % 7);
        const metrics = describeRouting(countRouting(ragged, { scores }));
        if (ragged.token.length > 0) {
          expect(metrics.imbalance).toBeGreaterThanOrEqual(1 - 1e-12);
          expect(metrics.imbalance).toBeLessThanOrEqual(experts + 1e-12);
        }
        expect(metrics.loadEntropy).toBeLessThanOrEqual(1 + 1e-12);
        expect(metrics.entropy).toBeLessThanOrEqual(Math.log(experts) + 1e-9);
        expect(metrics.confidence).toBeLessThanOrEqual(1 + 1e-12);
        for (let e = 0; e < experts; e += 1) {
          expect(metrics.coActivation[e * experts + e]).toBe(metrics.deadExperts.includes(e) ? 0 : 1);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('says what does not fit', () => {
    expect(messageOf(() => countRouting(plan, { scores: [1] }))).toBe(
      'routing metrics scores: must be 12, got 1 (measure one layer with its own scores and mask)',
    );
    expect(messageOf(() => countRouting(plan, { mask: new Uint8Array(2) }))).toBe(
      'routing metrics mask: must be 3, got 2 (measure one layer with its own scores and mask)',
    );
    expect(messageOf(() => countRouting(plan, { scores: [1, 1, 1, 1, 1, -1, 1, 1, 1, 1, 1, 1] }))).toBe(
      'routing metrics scores of token 1: must be finite and at least 0, got another (pass probabilities, not logits)',
    );
    const other = planPairs(Int32Array.of(0), { experts: 2, tokenOffsets: Int32Array.of(0, 1) });
    expect(messageOf(() => addRouting(countRouting(plan), countRouting(other)))).toBe(
      'routing metrics experts: must be 4, got 2 (measure one layer with its own scores and mask)',
    );
  });
});

describe('expert similarity', () => {
  it('is the cosine of each two: 1 for a copy and for a multiple, 0 for orthogonal ones and for zeros, -1 for opposite ones', () => {
    const experts = [
      [3, 4],
      [6, 8],
      [-4, 3],
      [-3, -4],
      [0, 0],
    ].map((values) => Float32Array.from(values));
    expect(Array.from(expertSimilarity(experts), (value) => Number(value.toFixed(6)))).toEqual(
      [
        [1, 1, 0, -1, 0],
        [1, 1, 0, -1, 0],
        [0, 0, 1, 0, 0],
        [-1, -1, 0, 1, 0],
        [0, 0, 0, 0, 0],
      ].flat(),
    );
    expect(messageOf(() => expertSimilarity([[1], [1, 2]]))).toBe(
      'experts[1]: must have 1 parameters, as experts[0], got 2 (compare experts of one kind and shape)',
    );
    expect(expertSimilarity([])).toEqual(new Float64Array(0));
  });
});

describe('stickiness', () => {
  const top1 = (ids: number[], experts: number): ReturnType<typeof planTopK> =>
    planTopK(Int32Array.from(ids), { tokens: ids.length, experts, topK: 1 });

  it('counts where the best expert leads, and how well it foretells', () => {
    const { transitions, predictability } = measureStickiness(top1([0, 0, 0, 1], 2), top1([2, 2, 1, 0], 3));
    expect([...transitions]).toEqual([0, 1, 2, 1, 0, 0]);
    expect(predictability).toBe(0.75);
  });

  it('leaves out tokens without a pair', () => {
    expect(measureStickiness(plan, plan).predictability).toBe(1);
    expect([...measureStickiness(plan, plan).transitions].reduce((sum, count) => sum + count)).toBe(2);
    expect(messageOf(() => measureStickiness(plan, top1([0], 2)))).toBe(
      'stickiness: plans must be of the same tokens, got 3 and 1 (take two layers of one pass)',
    );
  });
});
