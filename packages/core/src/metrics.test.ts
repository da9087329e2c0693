import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createRunningStatistics, medianOf, metricNames } from './metrics.ts';

describe('metricNames', () => {
  it('are unique, lower-case and of the form subject/quantity', () => {
    const names = Object.values(metricNames);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[a-z]+\/[a-z_]+$/);
  });
});

describe('createRunningStatistics', () => {
  const finite = fc.double({ min: -1e6, max: 1e6, noNaN: true });

  it('equals the textbook formulas on the whole list', () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 1, maxLength: 40 }), (values) => {
        const statistics = createRunningStatistics({ window: 7, decay: 0.5 });
        for (const value of values) statistics.push(value);
        const summary = statistics.summary();
        const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
        const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
        const weights = values.map((_, at) => 0.5 ** (values.length - 1 - at));
        const weighted = values.reduce((sum, value, at) => sum + value * (weights[at] ?? 0), 0);
        expect(summary.count).toBe(values.length);
        expect(Math.abs(summary.mean - mean)).toBeLessThan(1e-6);
        expect(Math.abs(summary.standardDeviation - Math.sqrt(variance))).toBeLessThan(1e-3);
        expect(summary.min).toBe(Math.min(...values));
        expect(summary.max).toBe(Math.max(...values));
        expect(summary.last).toBe(values.at(-1));
        expect(summary.median).toBe(medianOf(values.slice(-7)));
        expect(Math.abs(summary.ema - weighted / weights.reduce((a, b) => a + b, 0))).toBeLessThan(1e-6);
      }),
    );
  });

  it('gives NaN before the first value and counts what is not finite apart', () => {
    const statistics = createRunningStatistics();
    statistics.push(NaN);
    statistics.push(Infinity);
    expect(statistics.summary()).toMatchObject({
      count: 0,
      nonFinite: 2,
      mean: NaN,
      median: NaN,
      ema: NaN,
      last: NaN,
    });
    statistics.push(4);
    expect(statistics.summary()).toMatchObject({
      count: 1,
      nonFinite: 2,
      mean: 4,
      median: 4,
      ema: 4,
      last: 4,
    });
  });

  it('keeps the variance of values far from zero (Welford, not the sum of squares)', () => {
    const statistics = createRunningStatistics();
    for (const value of [1e9 + 1, 1e9 + 2, 1e9 + 3]) statistics.push(value);
    expect(statistics.summary().standardDeviation).toBeCloseTo(Math.sqrt(2 / 3), 6);
  });

  it.each([{ window: 0 }, { window: 1.5 }, { decay: 1 }, { decay: -0.1 }, { decay: NaN }])(
    'refuses %j',
    (options) => {
      expect(() => createRunningStatistics(options)).toThrow(/statistics (window|decay): must be/);
    },
  );
});

describe('medianOf', () => {
  it('is the middle value, or the mean of the middle two', () => {
    expect(medianOf([3, 1, 2])).toBe(2);
    expect(medianOf([4, 1, 2, 3])).toBe(2.5);
    expect(medianOf([10, 9])).toBe(9.5);
    expect(medianOf([])).toBeNaN();
  });
});
