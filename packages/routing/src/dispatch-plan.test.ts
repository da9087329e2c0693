import { isMoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { assertPlan, planFromJson, planStats, planToJson } from './dispatch-plan.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import { planPairs, planTopK } from './plan-top-k.ts';
import { offsetsOf, raggedChoices } from '../test/arbitraries.ts';

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (isMoebiusError(error)) return error.code;
    throw error;
  }
  return 'none';
}

const sample = (): DispatchPlan => planTopK(Int32Array.of(2, 0, 1, 2), { tokens: 2, experts: 3, topK: 2 });

describe('assertPlan', () => {
  it('catches every change of a single integer of any array', () => {
    const names = ['offsets', 'token', 'source', 'tokenOffsets', 'slot'] as const;
    fc.assert(
      fc.property(
        raggedChoices.filter(({ lists }) => lists.flat().length > 0),
        fc.constantFrom(...names),
        fc.nat(),
        fc.integer({ min: -3, max: 12 }),
        ({ experts, lists }, name, place, value) => {
          const plan = planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets: offsetsOf(lists) });
          const array = plan[name].slice();
          const at = place % array.length;
          fc.pre(array[at] !== value);
          array[at] = value;
          expect(codeOf(() => assertPlan({ ...plan, [name]: array }))).toBe('data');
        },
      ),
      { numRuns: 500 },
    );
  });

  it('catches wrong lengths, wrong types, wrong sizes and wrong statistics', () => {
    const plan = sample();
    const hostile: Record<string, unknown>[] = [
      { tokens: 3 },
      { tokens: -1 },
      { tokens: 1.5 },
      { tokens: NaN },
      { experts: 4 },
      { experts: 2 ** 31 },
      { offsets: [0, 1, 2, 4] },
      { offsets: null },
      { token: new Int32Array(5) },
      { source: new Int32Array(3) },
      { slot: new Float32Array(4) },
      { tokenOffsets: new Int32Array(2) },
      { prefix: new Uint8Array(3) },
      { prefix: [0, 0, 0, 0] },
      { primary: new Uint8Array(5) },
      { stats: null },
      { stats: { ...plan.stats, pairs: 5 } },
      { stats: { ...plan.stats, maxLoad: 3 } },
      { stats: { ...plan.stats, idleExperts: 1 } },
      { stats: { ...plan.stats, routedTokens: 1 } },
      { stats: { ...plan.stats, imbalance: 9 } },
      { stats: { ...plan.stats, load: Int32Array.of(2, 1, 1) } },
      { stats: { ...plan.stats, load: [1, 1, 2] } },
    ];
    assertPlan(plan);
    for (const change of hostile) {
      expect(
        codeOf(() => assertPlan({ ...plan, ...change } as DispatchPlan)),
        JSON.stringify(change),
      ).toBe('data');
    }
  });

  it('names the member, what must hold, and what was found', () => {
    const plan = sample();
    const slot = plan.slot.slice();
    slot[1] = slot[0]!;
    expect(() => assertPlan({ ...plan, slot })).toThrow(
      'plan.slot[1]: must list every pair once, got pair 2 again (rebuild the plan with planTopK or planPairs)',
    );
  });
});

describe('plans as JSON', () => {
  it('come back equal, prefix and primary included', () => {
    fc.assert(
      fc.property(raggedChoices, fc.boolean(), ({ experts, lists }, extended) => {
        const built = planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets: offsetsOf(lists) });
        const bytes = Uint8Array.from(built.token, (t) => t % 3);
        const plan: DispatchPlan = extended
          ? { ...built, prefix: bytes, primary: bytes.map((b) => b & 1) }
          : built;
        expect(planFromJson(JSON.parse(JSON.stringify(planToJson(plan))))).toEqual(plan);
      }),
    );
  });

  it('print as one readable line', () => {
    expect(JSON.stringify(planToJson(sample()))).toMatchInlineSnapshot(
      `"{"schemaVersion":1,"tokens":2,"experts":3,"offsets":[0,1,2,4],"token":[0,1,0,1],"tokenOffsets":[0,2,4],"slot":[2,0,1,3]}"`,
    );
  });

  it('are hostile input: any change is an error of ours, or a valid plan', () => {
    const text = JSON.stringify(planToJson(sample()));
    fc.assert(
      fc.property(
        fc.nat(text.length - 1),
        fc.constantFrom('0', '7', '-', '9e9', '1.5', '"x"', 'null', '[', ''),
        (at, insert) => {
          let value: unknown;
          try {
            value = JSON.parse(text.slice(0, at) + insert + text.slice(at + 1));
          } catch {
            return;
          }
          try {
            assertPlan(planFromJson(value));
          } catch (error) {
            expect(isMoebiusError(error, 'format') || isMoebiusError(error, 'data')).toBe(true);
          }
        },
      ),
      { numRuns: 2000 },
    );
    for (const value of [null, 3, [], {}, { schemaVersion: 2 }, { ...planToJson(sample()), token: 'x' }]) {
      expect(codeOf(() => planFromJson(value))).toBe('format');
    }
  });
});

describe('planStats', () => {
  it('counts loads, idle experts and imbalance', () => {
    const plan = sample();
    expect(planStats(plan)).toEqual(plan.stats);
    expect(plan.stats).toMatchObject({ pairs: 4, maxLoad: 2, idleExperts: 0, imbalance: 1.5 });
  });
});
