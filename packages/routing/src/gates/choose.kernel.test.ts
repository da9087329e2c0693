import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { aboveRows, firstBadRow, groupedRows, realPairs, scoreRows } from './choose.kernel.ts';
import { topKRows, topPRows, topTwoRows } from './choose.kernel.ts';
import type { Choice } from './stages.ts';

/** A batch of rows whose values tie often, with a mask. */
interface Batch {
  readonly rows: number[][];
  readonly mask: Uint8Array;
}

function batches(width: number, value: fc.Arbitrary<number>): fc.Arbitrary<Batch> {
  const row = fc.record({
    values: fc.array(value, { minLength: width, maxLength: width }),
    kept: fc.boolean(),
  });
  return fc.array(row, { maxLength: 6 }).map((entries) => ({
    rows: entries.map(({ values }) => values),
    mask: Uint8Array.from(entries, ({ kept }) => (kept ? 1 : 0)),
  }));
}

const coarse = fc.integer({ min: -3, max: 3 }).map((value) => value / 2);
const widths = fc.constantFrom(2, 4, 6);
const batch = widths.chain((width) => batches(width, coarse).map((one) => ({ ...one, width })));

/** Lists of columns, one a token. */
function listsOf({ ids, tokenOffsets }: Choice): number[][] {
  return Array.from({ length: tokenOffsets.length - 1 }, (_, t) => [
    ...ids.subarray(tokenOffsets[t], tokenOffsets[t + 1]),
  ]);
}

/** Columns best first, ties to the lowest. */
function order(row: readonly number[]): number[] {
  return [...row.keys()].toSorted((a, b) => (row[b] ?? 0) - (row[a] ?? 0) || a - b);
}

function sizesOf({ rows, mask, width }: Batch & { readonly width: number }) {
  return { tokens: rows.length, width, mask };
}

/** What a rule for one row gives for a batch. */
function expected(
  { rows, mask }: Batch,
  rule: (row: readonly number[], token: number) => number[],
): number[][] {
  return rows.map((row, t) => (mask[t] === 0 ? [] : rule(row, t)));
}

describe('choices are those of lists and sorts', () => {
  it('topKRows', () => {
    fc.assert(
      fc.property(batch, fc.integer({ min: 1, max: 2 }), (given, k) => {
        const got = topKRows(given.rows.flat(), k, sizesOf(given));
        expect(listsOf(got)).toEqual(expected(given, (row) => order(row).slice(0, k)));
      }),
    );
  });

  it('groupedRows: the best columns of the groups with the largest Σ exp', () => {
    fc.assert(
      fc.property(batch, fc.integer({ min: 1, max: 2 }), (given, kept) => {
        const groups = 2;
        const size = given.width / groups;
        const perGroup = Math.min(size, 2);
        const got = groupedRows(given.rows.flat(), { ...sizesOf(given), groups, kept, perGroup });
        const rule = (row: readonly number[]): number[] => {
          const inside = (g: number): number[] => row.slice(g * size, (g + 1) * size);
          const worth = [0, 1].map((g) => inside(g).reduce((sum, value) => sum + Math.exp(value), 0));
          // Equal worths may differ by rounding: then both groups are right, so such rows are compared by what they hold.
          const best = order(worth.map((value) => Math.round(value * 1e9))).slice(0, kept);
          const chosen = best.flatMap((g) =>
            order(inside(g))
              .slice(0, perGroup)
              .map((e) => e + g * size),
          );
          return chosen.toSorted((a, b) => (row[b] ?? 0) - (row[a] ?? 0) || a - b);
        };
        const isTie = (row: readonly number[]): boolean => {
          const [left = 0, right = 0] = [0, 1].map((g) =>
            row.slice(g * size, (g + 1) * size).reduce((sum, value) => sum + Math.exp(value), 0),
          );
          return Math.abs(left - right) < 1e-9;
        };
        for (const [t, list] of listsOf(got).entries()) {
          if (given.mask[t] !== 0 && kept === 1 && isTie(given.rows[t] ?? []))
            expect(list.length).toBe(perGroup);
          else expect(list).toEqual(expected(given, rule)[t]);
        }
      }),
    );
  });

  it('aboveRows: all above a number, or above a bound of their own', () => {
    fc.assert(
      fc.property(batch, fc.boolean(), coarse, (given, atLeastOne, bound) => {
        const sizes = sizesOf(given);
        const plain = aboveRows(given.rows.flat(), { ...sizes, bound, atLeastOne });
        const above = (row: readonly number[], limit: (e: number) => number): number[] => {
          const on = order(row).filter((e) => (row[e] ?? 0) > limit(e));
          return on.length === 0 && atLeastOne ? order(row).slice(0, 1) : on;
        };
        expect(listsOf(plain)).toEqual(expected(given, (row) => above(row, () => bound)));
        const columns = given.width / 2;
        const own = aboveRows(given.rows.flat(), { ...sizes, columns, bound: 'columns', atLeastOne });
        expect(listsOf(own)).toEqual(
          expected(given, (row) => above(row.slice(0, columns), (e) => row[e + columns] ?? 0)),
        );
      }),
    );
  });

  it('topPRows: no fewer would do, within least and most', () => {
    const positive = fc.integer({ min: 1, max: 8 });
    const shares = widths.chain((width) => batches(width, positive).map((one) => ({ ...one, width })));
    fc.assert(
      fc.property(
        shares,
        fc.integer({ min: 0, max: 40 }),
        fc.integer({ min: 1, max: 2 }),
        (given, p, least) => {
          const got = topPRows(given.rows.flat(), { ...sizesOf(given), p, least, most: given.width });
          const rule = (row: readonly number[]): number[] => {
            const all = order(row);
            const sum = (count: number): number =>
              all.slice(0, count).reduce((total, e) => total + (row[e] ?? 0), 0);
            const counts = Array.from({ length: given.width + 1 }, (_, count) => count);
            return all.slice(0, counts.find((count) => count >= least && sum(count) >= p) ?? given.width);
          };
          expect(listsOf(got)).toEqual(expected(given, rule));
        },
      ),
    );
  });

  it('topTwoRows: the second only where it is kept; both are in the sum', () => {
    const positive = fc.integer({ min: 1, max: 5 });
    const shares = widths.chain((width) => batches(width, positive).map((one) => ({ ...one, width })));
    fc.assert(
      fc.property(shares, (given) => {
        const got = topTwoRows(given.rows.flat(), (share) => share > 0.4, sizesOf(given));
        expect(listsOf(got)).toEqual(
          expected(given, (row) => {
            const [first = 0, second = 0] = order(row);
            const [a = 0, b = 0] = [row[first], row[second]];
            return b / (a + b) > 0.4 ? [first, second] : [first];
          }),
        );
        for (const [t, row] of given.rows.entries()) {
          const among = (got.among ?? new Uint8Array(0)).subarray(t * given.width, (t + 1) * given.width);
          expect([...among.keys()].filter((e) => among[e] === 1)).toEqual(order(row).slice(0, 2).toSorted());
        }
      }),
    );
  });

  it('realPairs: the same lists without null experts', () => {
    fc.assert(
      fc.property(batch, (given) => {
        const all = topKRows(given.rows.flat(), 2, sizesOf(given));
        const experts = given.width - 1;
        const { ids, tokenOffsets } = realPairs(all.ids, all.tokenOffsets, experts);
        expect(listsOf({ ids, tokenOffsets })).toEqual(
          listsOf(all).map((list) => list.filter((e) => e < experts)),
        );
      }),
    );
  });
});

describe('rows on the host', () => {
  it('are scored as on paper, masked ones left 0', () => {
    const logits = [-2, 0, 3, NaN, NaN, NaN];
    const sizes = { tokens: 2, width: 3, mask: Uint8Array.of(1, 0) };
    const softplus = (z: number): number => Math.log(1 + Math.exp(z));
    const total = Math.exp(-2) + 1 + Math.exp(3);
    const onPaper = {
      softmax: [-2, 0, 3].map((z) => Math.exp(z) / total),
      sigmoid: [-2, 0, 3].map((z) => 1 / (1 + Math.exp(-z))),
      'sqrt-softplus': [-2, 0, 3].map((z) => Math.sqrt(softplus(z))),
      relu: [0, 0, 3],
      identity: [-2, 0, 3],
    } as const;
    for (const [score, values] of Object.entries(onPaper)) {
      const got = [...scoreRows(logits, { ...sizes, score: score as keyof typeof onPaper })];
      for (const [i, value] of [...values, 0, 0, 0].entries()) expect(got[i]).toBeCloseTo(value, 12);
    }
    const far = [...scoreRows([-800, 800], { tokens: 1, width: 2, score: 'sqrt-softplus' })];
    expect(far).toEqual([0, Math.sqrt(800)]);
  });

  it('are usable unless they hold NaN, +∞ or nothing else than -∞', () => {
    const bad = (row: number[], mask?: Uint8Array): number =>
      firstBadRow([0, 0, ...row], { tokens: 2, width: 2, ...(mask === undefined ? {} : { mask }) });
    expect([bad([0, 1]), bad([-Infinity, 1]), bad([3e38, 3e38])]).toEqual([-1, -1, -1]);
    expect([bad([NaN, 1]), bad([0, Infinity]), bad([-Infinity, -Infinity])]).toEqual([1, 1, 1]);
    expect(bad([NaN, 1], Uint8Array.of(1, 0))).toBe(-1);
  });
});
