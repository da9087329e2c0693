import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { cellsOf, chosenTable, expertChoice } from './expert-choice.kernel.ts';
import { orthogonalRows } from './orthogonal-rows.kernel.ts';
import { atTheirTokens, oneEach, routedRows } from './routed-rows.kernel.ts';
import { sinkhorn } from './sinkhorn.kernel.ts';
import { balancedTable, distinctExperts, mixBits } from './token-hash.kernel.ts';
import { kitRng } from '../testing/checks.ts';

const problem = fc
  .tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 5 }))
  .chain(([tokens, experts]) =>
    fc.record({
      experts: fc.constant(experts),
      group: fc.array(fc.integer({ min: -1, max: 1 }), { minLength: tokens, maxLength: tokens }),
      room: fc.integer({ min: 1, max: 4 }),
      scores: fc.array(fc.integer({ min: 0, max: 4 }), {
        minLength: tokens * experts,
        maxLength: tokens * experts,
      }),
    }),
  );

describe('expertChoice', () => {
  it('takes the best of every column and group: the sort of a list, ties to the earliest token', () => {
    fc.assert(
      fc.property(problem, ({ experts, group, room, scores }) => {
        const cells = cellsOf({ group: Int32Array.from(group), groups: 2 });
        const chosen = chosenTable(expertChoice({ scores, experts, cells, capacity: () => room }), experts);
        const expected = new Uint8Array(scores.length);
        for (const g of [0, 1])
          for (let e = 0; e < experts; e += 1)
            group
              .flatMap((own, t) => (own === g ? [{ t, score: scores[t * experts + e]! }] : []))
              .toSorted((a, b) => b.score - a.score)
              .slice(0, room)
              .forEach(({ t }) => (expected[t * experts + e] = 1));
        expect(chosen).toEqual(expected);
      }),
      { numRuns: 1000 },
    );
  });

  it('keeps to the cap of a token, and then takes no pair that had room to be better', () => {
    fc.assert(
      fc.property(problem, fc.integer({ min: 1, max: 3 }), ({ experts, group, room, scores }, cap) => {
        const cells = cellsOf({ group: Int32Array.from(group), groups: 2 });
        const choice = expertChoice({ scores, experts, cells, capacity: () => room, maxPerToken: cap });
        const chosen = chosenTable(choice, experts);
        const rowOf = (t: number): number =>
          chosen.subarray(t * experts, (t + 1) * experts).reduce((a, b) => a + b, 0);
        const loadOf = (e: number, g: number): number =>
          group.reduce((sum, own, t) => sum + (own === g ? chosen[t * experts + e]! : 0), 0);
        for (const [t, g] of group.entries()) {
          expect(rowOf(t)).toBeLessThanOrEqual(g < 0 ? 0 : cap);
          for (let e = 0; e < experts; e += 1) {
            if (g >= 0) expect(loadOf(e, g)).toBeLessThanOrEqual(room);
            const isOpen = g >= 0 && chosen[t * experts + e] === 0;
            // A pair is only left out when its token or its expert is full, or when any expert may be taken.
            if (isOpen && cap < experts) expect(rowOf(t) === cap || loadOf(e, g) === room).toBe(true);
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('lists the experts of a token best first', () => {
    const scores = [0.2, 0.5, 0.3, 0.5, 0.5, 0];
    const { ids, tokenOffsets } = expertChoice({
      scores,
      experts: 3,
      cells: [Int32Array.of(0, 1)],
      capacity: () => 2,
    });
    expect([...ids]).toEqual([1, 2, 0, 0, 1, 2]);
    expect([...tokenOffsets]).toEqual([0, 3, 6]);
  });
});

describe('sinkhorn', () => {
  it('equalises rows and columns', () => {
    const logits = Float64Array.from({ length: 12 * 4 }, (_, i) => Math.sin(3 * i) + (i % 4 === 0 ? 2 : 0));
    const plan = sinkhorn(logits, { experts: 4, temperature: 1, tolerance: 1e-6, iterations: 500 });
    for (let t = 0; t < 12; t += 1)
      expect(plan.subarray(4 * t, 4 * t + 4).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
    for (let e = 0; e < 4; e += 1)
      expect(plan.filter((_, i) => i % 4 === e).reduce((a, b) => a + b, 0)).toBeCloseTo(3, 4);
  });

  it('keeps the ratios of the logits: plan_te / plan_tf · plan_uf / plan_ue is that of exp(z)', () => {
    const logits = [0.3, -1, 2, 0.7, 0.1, -0.4];
    const plan = sinkhorn(logits, { experts: 3, temperature: 0.5, tolerance: 1e-9, iterations: 1000 });
    const ratio = (values: ArrayLike<number>): number =>
      (values[0]! * values[5]!) / (values[2]! * values[3]!);
    expect(ratio(plan)).toBeCloseTo(ratio(logits.map((value) => Math.exp(value / 0.5))), 6);
  });

  it('comes to the balanced assignment as the temperature falls', () => {
    const logits = [3, 1, 2, 0, 2.5, 2.4, 0.5, 0];
    const plan = sinkhorn(logits, { experts: 2, temperature: 0.02, tolerance: 1e-9, iterations: 5000 });
    expect([...plan].map((share) => Math.round(share))).toEqual([1, 0, 1, 0, 0, 1, 0, 1]);
  });
});

describe('experts by number', () => {
  it('balances ids by frequency: no expert has more than another by more than its last id', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(100), { maxLength: 40 }),
        fc.integer({ min: 1, max: 6 }),
        (frequencies, experts) => {
          const table = balancedTable(frequencies, experts);
          const load = Array.from({ length: experts }, (_, e) =>
            frequencies.filter((_count, id) => table[id] === e).reduce((a, b) => a + b, 0),
          );
          const largest = Math.max(0, ...frequencies);
          expect(Math.max(...load) - Math.min(...load)).toBeLessThanOrEqual(largest);
        },
      ),
    );
    expect([...balancedTable([5, 9, 1, 4], 2)]).toEqual([1, 0, 0, 1]);
  });

  it('tells hashes apart that agree', () => {
    expect(distinctExperts([7, 2, 12], 5)).toEqual([2, 3, 4]);
    expect(distinctExperts([4, 4, 4], 3)).toEqual([1, 2, 0]);
  });

  it('mixes bits: neighbouring ids spread evenly, and the numbers stay what they are on every machine', () => {
    const counts = new Int32Array(8);
    for (let id = 0; id < 8000; id += 1) counts[mixBits(0, 3, id) % 8]! += 1;
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
    expect([mixBits(0, 0, 0), mixBits(1, 2, 3), mixBits(1, 2, 3, 1)]).toEqual([
      744138621, 2901138804, 1962375431,
    ]);
  });
});

describe('rows without padding', () => {
  it('go out and come back to their tokens', () => {
    const mask = Uint8Array.of(1, 0, 1);
    const { routed, rows } = routedRows({ logits: [1, 2, 3, 4, 5, 6], tokens: 3, experts: 2, mask });
    expect([...routed]).toEqual([0, 2]);
    expect([...rows]).toEqual([1, 2, 5, 6]);
    expect([...atTheirTokens(rows, routed, 3)]).toEqual([1, 2, 0, 0, 5, 6]);
    expect([...oneEach(3, mask)]).toEqual([0, 1, 1, 2]);
  });
});

describe('orthogonalRows', () => {
  it('gives rows of length gain at right angles; columns, when there are more rows', () => {
    const rng = kitRng('orthogonal');
    for (const [rows, columns] of [
      [3, 8],
      [8, 3],
      [4, 4],
    ] as const) {
      const values = orthogonalRows(() => rng.normal(), { rows, columns, gain: 0.1 });
      const line = (i: number): number[] =>
        rows <= columns
          ? [...values.subarray(i * columns, (i + 1) * columns)]
          : Array.from({ length: rows }, (_, r) => values[r * columns + i]!);
      for (let i = 0; i < Math.min(rows, columns); i += 1)
        for (let j = 0; j <= i; j += 1) {
          const product = line(i).reduce((sum, value, d) => sum + value * line(j)[d]!, 0);
          expect(product).toBeCloseTo(i === j ? 0.01 : 0, 7);
        }
    }
  });
});
