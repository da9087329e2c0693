import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import type { BatchSampler } from './batch-sampler.ts';
import { mixSamplers } from './mixed-sampler.ts';

/** A sampler whose row `r` is the one token `base + r`. */
function counting(base: number): BatchSampler {
  return {
    rowsPerEpoch: 60,
    rows: (first, count) => {
      const ids = Int32Array.from({ length: count }, (_, at) => base + first + at);
      return { ids, targets: ids.map((id) => id + 1), rows: count, length: 1 };
    },
  };
}

describe('mixSamplers', () => {
  it('takes every row of both in order, in the proportion asked for', () => {
    const mixed = mixSamplers(counting(0), counting(1000), 0.25);
    expect([...mixed.rows(0, 9).ids]).toEqual([0, 1, 2, 1000, 3, 4, 5, 1001, 6]);
    expect([...mixed.rows(0, 3).targets]).toEqual([1, 2, 3]);
    expect(mixed.rowsPerEpoch).toBe(80);
  });

  it('is a function of the position', () => {
    const share = fc.double({ min: 0.01, max: 0.99, noNaN: true });
    fc.assert(
      fc.property(share, fc.nat(500), fc.integer({ min: 1, max: 40 }), (part, first, count) => {
        const mixed = mixSamplers(counting(0), counting(100_000), part);
        const whole = mixed.rows(0, first + count).ids;
        expect(mixed.rows(first, count).ids).toEqual(whole.slice(first));
        const replayed = whole.filter((id) => id >= 100_000);
        expect(replayed.length).toBe(Math.floor((first + count) * part));
        expect([...replayed]).toEqual(Array.from(replayed, (_, at) => 100_000 + at));
      }),
    );
  });
});
