import { isMoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { assertPlan } from './dispatch-plan.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import { planPairs, planTopK } from './plan-top-k.ts';
import { offsetsOf, raggedChoices, topKChoices } from '../test/arbitraries.ts';
import { naivePlan } from '../test/naive-plan.ts';

function withoutStats({ stats: _stats, ...arrays }: DispatchPlan): Omit<DispatchPlan, 'stats'> {
  return arrays;
}

function thrownBy(call: () => unknown): { code: string; message: string } {
  try {
    call();
  } catch (error) {
    if (isMoebiusError(error)) return { code: error.code, message: error.message };
    throw error;
  }
  return { code: 'none', message: '' };
}

describe('planTopK', () => {
  it('equals the planner of lists of lists, masked tokens included', () => {
    fc.assert(
      fc.property(topKChoices, ({ experts, topK, lists, mask }) => {
        const ids = Int32Array.from(lists.flat());
        const plan = planTopK(ids, { tokens: lists.length, experts, topK, mask });
        const expected = naivePlan(
          lists.map((list, t) => (mask[t] === 0 ? [] : list)),
          experts,
        );
        expect(withoutStats(plan)).toEqual(expected);
        assertPlan(plan);
      }),
    );
  });

  it('lists every pair once on both sides, and each side finds the other', () => {
    fc.assert(
      fc.property(topKChoices, ({ experts, topK, lists }) => {
        const plan = planTopK(Int32Array.from(lists.flat()), { tokens: lists.length, experts, topK });
        const seen = new Set<number>();
        for (let t = 0; t < plan.tokens; t += 1) {
          for (let i = plan.tokenOffsets[t]!; i < plan.tokenOffsets[t + 1]!; i += 1) {
            const n = plan.slot[i]!;
            expect(plan.token[n]).toBe(t);
            expect(plan.source[n]! % experts).toBe(lists[t]![i - plan.tokenOffsets[t]!]);
            seen.add(n);
          }
        }
        expect(seen.size).toBe(plan.token.length);
        expect(plan.stats.load.reduce((sum, load) => sum + load, 0)).toBe(lists.length * topK);
      }),
    );
  });

  it('gives a permutation for exact k: slot is the inverse of the sort by expert', () => {
    const plan = planTopK(Int32Array.of(2, 0, 1, 2, 0, 1), { tokens: 3, experts: 3, topK: 2 });
    expect([...plan.offsets]).toEqual([0, 2, 4, 6]);
    expect([...plan.token]).toEqual([0, 2, 1, 2, 0, 1]);
    expect([...plan.source]).toEqual([0, 6, 4, 7, 2, 5]);
    expect([...plan.slot]).toEqual([4, 0, 2, 5, 1, 3]);
  });

  it('makes fresh arrays: two plans share none, and the ids stay as they were', () => {
    const ids = Int32Array.of(1, 0, 0, 1);
    const options = { tokens: 2, experts: 2, topK: 2 };
    const [first, second] = [planTopK(ids, options), planTopK(ids, options)];
    const buffers = (plan: DispatchPlan): ArrayBufferLike[] =>
      [plan.offsets, plan.token, plan.source, plan.tokenOffsets, plan.slot, plan.stats.load].map(
        (array) => array.buffer,
      );
    expect(new Set([...buffers(first), ...buffers(second), ids.buffer]).size).toBe(13);
    expect([...ids]).toEqual([1, 0, 0, 1]);
  });

  it('reports balance', () => {
    const { stats } = planTopK(Int32Array.of(0, 0, 0, 2), { tokens: 4, experts: 4, topK: 1 });
    expect(stats).toEqual({
      pairs: 4,
      routedTokens: 4,
      load: Int32Array.of(3, 0, 1, 0),
      maxLoad: 3,
      idleExperts: 2,
      imbalance: 3,
    });
  });

  it('gives an empty plan for an empty batch and for a batch that is all padding', () => {
    for (const plan of [
      planTopK(new Int32Array(0), { tokens: 0, experts: 3, topK: 2 }),
      planTopK(new Int32Array(4), { tokens: 2, experts: 3, topK: 2, mask: new Uint8Array(2) }),
    ]) {
      assertPlan(plan);
      expect(plan.stats).toMatchObject({
        pairs: 0,
        routedTokens: 0,
        maxLoad: 0,
        idleExperts: 3,
        imbalance: 0,
      });
    }
  });

  it('says what is wrong with sizes and ids', () => {
    expect(thrownBy(() => planTopK(new Int32Array(3), { tokens: 1, experts: 2, topK: 3 }))).toEqual({
      code: 'configuration',
      message: 'topK: must be in 1…experts 2, got 3 (lower topK or add experts)',
    });
    expect(thrownBy(() => planTopK(new Int32Array(3), { tokens: 2, experts: 4, topK: 2 }))).toMatchObject({
      code: 'shape',
      message: expect.stringContaining('ids: must be 4 (tokens 2 × topK 2), got 3'),
    });
    expect(
      thrownBy(() =>
        planTopK(Int32Array.of(0, 1), { tokens: 2, experts: 2, topK: 1, mask: new Uint8Array(3) }),
      ),
    ).toMatchObject({ code: 'shape', message: expect.stringContaining('mask: must be 2') });
    expect(thrownBy(() => planTopK(Int32Array.of(0, 7), { tokens: 2, experts: 4, topK: 1 }))).toEqual({
      code: 'data',
      message: "ids[1]: must be in 0…3, got 7 (check the router's selection)",
    });
    expect(thrownBy(() => planTopK(Int32Array.of(0, 1, 3, 3), { tokens: 2, experts: 4, topK: 2 }))).toEqual({
      code: 'data',
      message: "ids[3]: must name each expert once for token 1, got 3 (check the router's selection)",
    });
    expect(
      thrownBy(() => planTopK(new Int32Array(70_000), { tokens: 70_000, experts: 40_000, topK: 1 })),
    ).toMatchObject({
      code: 'limit',
    });
  });
});

describe('planPairs', () => {
  it('equals the planner of lists of lists for any number of experts a token', () => {
    fc.assert(
      fc.property(raggedChoices, ({ experts, lists }) => {
        const plan = planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets: offsetsOf(lists) });
        expect(withoutStats(plan)).toEqual(naivePlan(lists, experts));
        assertPlan(plan);
      }),
    );
  });

  it('refuses a grouping that does not ascend from 0 or does not cover the ids', () => {
    const ids = Int32Array.of(0, 1);
    expect(thrownBy(() => planPairs(ids, { experts: 2, tokenOffsets: Int32Array.of(0, 1) }))).toMatchObject({
      code: 'shape',
    });
    expect(
      thrownBy(() => planPairs(ids, { experts: 2, tokenOffsets: Int32Array.of(0, 3, 2) })),
    ).toMatchObject({
      code: 'shape',
      message: expect.stringContaining('must ascend from 0, got 2 after 3'),
    });
    expect(thrownBy(() => planPairs(ids, { experts: 2, tokenOffsets: Int32Array.of(1, 2) }))).toMatchObject({
      code: 'shape',
    });
  });
});
