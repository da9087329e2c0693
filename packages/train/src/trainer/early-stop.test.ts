import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { isOutOfPatience, judgeEvaluation } from './early-stop.ts';
import type { BestSoFar } from './early-stop.ts';

function judgeAll(
  bits: readonly number[],
  config: { patience: number; minimumGain: number },
): { best: BestSoFar | null; stoppedAt: number } {
  let best: BestSoFar | null = null;
  for (const [at, bitsPerByte] of bits.entries()) {
    best = judgeEvaluation(best, { bitsPerByte, step: at + 1 }, config).best;
    if (isOutOfPatience(best, config)) return { best, stoppedAt: at + 1 };
  }
  return { best, stoppedAt: 0 };
}

describe('judgeEvaluation', () => {
  it('stops after `patience` evaluations without a gain, and remembers the lowest', () => {
    const { best, stoppedAt } = judgeAll([3, 2, 2.5, 1.5, 1.6, 1.5, 1.7, 1.2], {
      patience: 3,
      minimumGain: 0,
    });
    expect(stoppedAt).toBe(7);
    expect(best).toEqual({ bitsPerByte: 1.5, step: 4, reference: 1.5, waited: 3 });
  });

  it('adds up small gains, and keeps the best even when its gain was too small', () => {
    const config = { patience: 3, minimumGain: 0.1 };
    expect(judgeAll([2, 1.95, 1.91, 1.89, 1.88], config)).toEqual({
      best: { bitsPerByte: 1.88, step: 5, reference: 1.89, waited: 1 },
      stoppedAt: 0,
    });
    expect(judgeAll([2, 1.97, 1.94, 1.95], config)).toEqual({
      best: { bitsPerByte: 1.94, step: 3, reference: 2, waited: 3 },
      stoppedAt: 4,
    });
  });

  it('does not take a number that is not finite for a gain', () => {
    const { best } = judgeAll([2, NaN, 1.5], { patience: 5, minimumGain: 0 });
    expect(best).toMatchObject({ bitsPerByte: 1.5, step: 3 });
    expect(judgeAll([NaN, 2], { patience: 5, minimumGain: 0 }).best).toMatchObject({
      bitsPerByte: 2,
      step: 2,
    });
  });

  it('agrees with a search over the whole list', () => {
    const lists = fc.array(fc.double({ min: 0.5, max: 4, noNaN: true }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(lists, fc.integer({ min: 1, max: 6 }), (bits, patience) => {
        const { best, stoppedAt } = judgeAll(bits, { patience, minimumGain: 0 });
        const seen = bits.slice(0, stoppedAt === 0 ? bits.length : stoppedAt);
        const lowest = Math.min(...seen);
        expect(best).toMatchObject({ bitsPerByte: lowest, step: seen.indexOf(lowest) + 1 });
        expect(best?.waited).toBe(seen.length - 1 - seen.indexOf(lowest));
        expect(stoppedAt > 0).toBe(best?.waited === patience);
      }),
    );
  });
});
