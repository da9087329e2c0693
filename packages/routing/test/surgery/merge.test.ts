import { createEngine } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { gatedExpert, plainExpert } from '../../src/expert-kinds.ts';
import { scaleExpert, splitExpert } from '../../src/surgery/host-expert.ts';
import type { HostExpert } from '../../src/surgery/host-expert.ts';
import { lowRank } from '../../src/surgery/low-rank.kernel.ts';
import { busiestExperts, mergeExperts } from '../../src/surgery/merge-experts.ts';
import { splitInOrder } from '../../src/surgery/upcycle.ts';
import { addUp, randomExpert, randomTensor, relativeDifference, runExpert } from './host-layers.ts';

beforeAll(async () => {
  await createEngine();
});

const kind = gatedExpert();
const size = { modelWidth: 4, hiddenWidth: 6 };
const three = [1, 2, 3].map((seed) => randomExpert(kind, size, seed));

function upOf(expert: HostExpert): Float32Array {
  return expert['up']?.data ?? new Float32Array(0);
}

/** Squared distance of two matrices. */
function distance(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, at) => sum + (value - (b[at] ?? 0)) ** 2, 0);
}

describe('T3 sparse to dense', () => {
  it('T3: merging one expert is exact, by every method', () => {
    fc.assert(
      fc.property(fc.constantFrom(kind, plainExpert({ bias: true })), fc.nat(1000), (one, seed) => {
        const expert = randomExpert(one, size, seed);
        for (const method of [
          { method: 'average' },
          { method: 'top', load: [3], count: 1 },
          { method: 'best', load: [3] },
          { method: 'low-rank' },
          { method: 'join' },
        ] as const) {
          expect(mergeExperts(one, [expert], method)).toEqual(expert);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('T3: experts that are the same merge to themselves', () => {
    const expert = randomExpert(kind, size, 7);
    const copies = [expert, expert, expert];
    expect(mergeExperts(kind, copies, { method: 'average' })).toEqual(expert);
    expect(mergeExperts(kind, copies, { method: 'top', load: [1, 5, 2], count: 2 })).toEqual(expert);
    expect(mergeExperts(kind, copies, { method: 'best', load: [1, 5, 2] })).toEqual(expert);
  });

  it('averages, equally or by load', () => {
    const [a, b, c] = three.map(upOf);
    const mean = mergeExperts(kind, three, { method: 'average' });
    expect(
      relativeDifference(
        upOf(mean),
        addUp([a!, b!, c!]).map((value) => value / 3),
      ),
    ).toBeLessThan(1e-6);
    const byLoad = mergeExperts(kind, three, { method: 'average', load: [1, 0, 3] });
    expect(
      relativeDifference(
        upOf(byLoad),
        a!.map((value, at) => (value + 3 * (c![at] ?? 0)) / 4),
      ),
    ).toBeLessThan(1e-6);
  });

  it('takes the busiest, or the busiest few by their load', () => {
    expect(mergeExperts(kind, three, { method: 'best', load: [2, 9, 9] })).toEqual(three[1]);
    const [a, , c] = three.map(upOf);
    const top = mergeExperts(kind, three, { method: 'top', load: [3, 0, 1], count: 2 });
    expect(
      relativeDifference(
        upOf(top),
        a!.map((value, at) => (3 * value + (c![at] ?? 0)) / 4),
      ),
    ).toBeLessThan(1e-6);
    expect(busiestExperts([4, 7, 4, 1], 3)).toEqual([0, 1, 2]);
  });

  it('joined side by side, experts give the mean of their outputs; a split layer comes back whole', () => {
    const x = randomTensor([5, 4], 9);
    const joined = mergeExperts(kind, three, { method: 'join' });
    const mean = addUp(three.map((expert) => runExpert(kind, expert, x))).map((value) => value / 3);
    expect(relativeDifference(runExpert(kind, joined, x), mean)).toBeLessThan(2e-6);
    expect(joined['down']?.shape).toEqual([18, 4]);
    const dense = randomExpert(kind, size, 5);
    const parts = splitExpert(kind, dense, splitInOrder(6, 3));
    const whole = scaleExpert(kind, mergeExperts(kind, parts, { method: 'join' }), { factor: 3 });
    for (const part of ['gate', 'up', 'down']) {
      expect(relativeDifference(whole[part]!.data, dense[part]!.data)).toBeLessThan(1e-6);
    }
  });

  it('low-rank: no other matrix of that rank is nearer, and the distance is what the left-out directions carry', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 6 }),
        fc.integer({ min: 2, max: 6 }),
        fc.nat(1000),
        (rows, columns, seed) => {
          const short = Math.min(rows, columns);
          const { data } = randomTensor([rows, columns], seed);
          let before = Infinity;
          for (let rank = 1; rank <= short; rank += 1) {
            const found = lowRank(data, { rows, columns, rank });
            expect(rankOf(found, rows, columns)).toBeLessThanOrEqual(rank);
            const own = distance(data, found);
            expect(own).toBeLessThanOrEqual(before + 1e-6);
            before = own;
            for (let rival = 0; rival < 5; rival += 1) {
              const left = randomTensor([rows, rank], `${seed} ${rival} left`).data;
              const other = bestRight(data, left, { rows, columns, rank });
              expect(own).toBeLessThanOrEqual(distance(data, other) + 1e-5);
            }
          }
          expect(lowRank(data, { rows, columns, rank: short })).toEqual(data);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('low-rank finds a planted rank exactly', () => {
    const [left, right] = [randomTensor([7, 2], 1).data, randomTensor([2, 5], 2).data];
    const data = Float32Array.from({ length: 35 }, (_, at) => {
      const [row, column] = [Math.floor(at / 5), at % 5];
      return left[row * 2]! * right[column]! + left[row * 2 + 1]! * right[5 + column]!;
    });
    expect(relativeDifference(lowRank(data, { rows: 7, columns: 5, rank: 2 }), data)).toBeLessThan(1e-6);
  });

  it('says what does not fit', () => {
    const cases: readonly (readonly [() => unknown, string])[] = [
      [() => mergeExperts(kind, [], { method: 'average' }), 'experts: must be at least one, got 0'],
      [
        () => mergeExperts(kind, three, { method: 'best', load: [1] }),
        'load: must have one number for each of 3 experts, got 1',
      ],
      [
        () => mergeExperts(kind, three, { method: 'average', load: [1, -1, 0] }),
        'load: must be numbers of at least 0, got -1',
      ],
      [
        () => mergeExperts(kind, three, { method: 'average', load: [0, 0, 0] }),
        'load: must not be all 0, got 0',
      ],
      [
        () => mergeExperts(kind, three, { method: 'top', load: [1, 2, 3], count: 4 }),
        'count: must be an integer from 1 to 3 experts, got 4',
      ],
      [
        () => mergeExperts(kind, three, { method: 'low-rank', rank: 0 }),
        'rank: must be an integer of at least 1, got 0',
      ],
      [
        () =>
          mergeExperts(kind, [three[0]!, randomExpert(kind, { modelWidth: 4, hiddenWidth: 5 }, 1)], {
            method: 'average',
          }),
        'experts[1], part gate: must be [6, 4] as in the first, got [5, 4] (merge experts of one size)',
      ],
    ];
    for (const [call, message] of cases) expect(call).toThrow(message);
  });
});

/** Rank by Gaussian elimination with full pivoting. */
function rankOf(data: Float32Array, rows: number, columns: number): number {
  const matrix = Array.from({ length: rows }, (_, r) =>
    Array.from(data.subarray(r * columns, (r + 1) * columns)),
  );
  let rank = 0;
  for (let step = 0; step < Math.min(rows, columns); step += 1) {
    let [best, at, along] = [0, 0, 0];
    for (let r = rank; r < rows; r += 1) {
      for (let c = 0; c < columns; c += 1) {
        if (Math.abs(matrix[r]![c]!) > best) [best, at, along] = [Math.abs(matrix[r]![c]!), r, c];
      }
    }
    if (best < 1e-5) return rank;
    [matrix[rank], matrix[at]] = [matrix[at]!, matrix[rank]!];
    for (let r = rank + 1; r < rows; r += 1) {
      const factor = matrix[r]![along]! / matrix[rank]![along]!;
      for (let c = 0; c < columns; c += 1) matrix[r]![c]! -= factor * matrix[rank]![c]!;
    }
    rank += 1;
  }
  return rank;
}

/** The matrix nearest to `data` among those whose columns are spanned by `left`: Gram and Schmidt, then projection. */
function bestRight(
  data: Float32Array,
  left: Float32Array,
  { rows, columns, rank }: { rows: number; columns: number; rank: number },
): Float32Array {
  const basis: number[][] = [];
  for (let k = 0; k < rank; k += 1) {
    let vector = Array.from({ length: rows }, (_, r) => left[r * rank + k]!);
    for (const other of basis) {
      const along = vector.reduce((sum, value, r) => sum + value * other[r]!, 0);
      vector = vector.map((value, r) => value - along * other[r]!);
    }
    const length = Math.hypot(...vector);
    basis.push(vector.map((value) => value / length));
  }
  return data.map((_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    return basis.reduce((sum, vector) => {
      const along = vector.reduce((total, value, r) => total + value * data[r * columns + column]!, 0);
      return sum + along * vector[row]!;
    }, 0);
  });
}
