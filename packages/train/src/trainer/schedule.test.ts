import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { scheduleFactor } from './schedule.ts';
import type { ScheduleConfig } from './train-config.ts';

const base: ScheduleConfig = { kind: 'cosine', warmupFraction: 0.1, floor: 0.1, decayFraction: 0.2 };
const kinds = ['cosine', 'linear', 'constant', 'wsd'] as const;
const curve = (schedule: ScheduleConfig, steps: number): number[] =>
  Array.from({ length: steps }, (_, step) =>
    scheduleFactor(schedule, { step, steps, fraction: step / steps }),
  );

describe('scheduleFactor', () => {
  it('rises linearly over warm-up and reaches the peak at its last step', () => {
    expect(curve(base, 100).slice(0, 10)).toEqual(
      [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1].map((x) => expect.closeTo(x, 12)),
    );
    expect(curve({ ...base, warmupSteps: 4 }, 100).slice(0, 4)).toEqual([0.25, 0.5, 0.75, 1]);
    expect(curve({ ...base, warmupSteps: 0 }, 100)[0]).toBe(1);
  });

  it.each([
    ['cosine', 0.55, 0.1],
    ['linear', 0.55, 0.1],
    ['constant', 1, 1],
    ['wsd', 1, 0.1],
  ] as const)('%s: in the middle and at the end', (kind, middle, end) => {
    const at = (fraction: number): number => scheduleFactor({ ...base, kind }, { step: 999, fraction });
    expect(at(0.55)).toBeCloseTo(middle, 6);
    expect(at(1)).toBeCloseTo(end, 6);
  });

  it('wsd stays at the peak until the last share of the run, then falls in a line', () => {
    const at = (fraction: number): number =>
      scheduleFactor({ ...base, kind: 'wsd' }, { step: 999, fraction });
    expect([at(0.2), at(0.8), at(0.9)]).toEqual([1, 1, expect.closeTo(0.55, 6)]);
  });

  it('stays within (0, 1] and never rises after warm-up', () => {
    const any = fc.record({
      kind: fc.constantFrom(...kinds),
      warmupFraction: fc.double({ min: 0, max: 0.5, noNaN: true }),
      floor: fc.double({ min: 0.01, max: 1, noNaN: true }),
      decayFraction: fc.double({ min: 0.01, max: 0.5, noNaN: true }),
    });
    fc.assert(
      fc.property(any, fc.integer({ min: 1, max: 200 }), (schedule, steps) => {
        const factors = curve(schedule, steps);
        expect(Math.min(...factors)).toBeGreaterThan(0);
        expect(Math.max(...factors)).toBeLessThanOrEqual(1);
        const after = factors.slice(Math.max(0, Math.round(schedule.warmupFraction * steps) - 1));
        after.forEach((factor, index) => expect(factor).toBeLessThanOrEqual((after[index - 1] ?? 1) + 1e-12));
      }),
    );
  });

  it('follows the clock when the run has a time budget, and moves from the first step on', () => {
    const at = (fraction: number): number => scheduleFactor(base, { step: 0, fraction });
    expect([at(0), at(0.05), at(0.1), at(1)]).toEqual([0.01, 0.5, 1, expect.closeTo(0.1, 6)]);
  });
});
