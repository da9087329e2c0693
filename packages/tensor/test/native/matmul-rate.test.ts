import { createManualClock } from '@moebius/core';
import { beforeAll, describe, expect, it } from 'vitest';

import { measureMatmulRate } from '../../src/engine/matmul-rate.ts';
import { memory } from '../../src/index.ts';
import { startNative } from './start-native.ts';

beforeAll(() => startNative());

describe('the matmul rate', () => {
  it('is that of the fastest product of the largest side that fits the time', () => {
    // Every look at this clock takes 10 ms, so every product does: 64 · 16 > 300 ends the growth at once.
    let now = 0;
    const looks = { nowMs: () => (now += 10) };
    expect(measureMatmulRate(looks, { durationMs: 100 })).toEqual({
      flopsPerSecond: (2 * 64 ** 3) / 0.01,
      side: 64,
      repetitions: 3,
    });
  });
  it('grows to the largest side when products are quick, and does not fall back', () => {
    let now = 0;
    const looks = { nowMs: () => (now += 1) };
    expect(measureMatmulRate(looks, { durationMs: 60 })).toMatchObject({
      flopsPerSecond: (2 * 1024 ** 3) / 0.001,
      side: 1024,
    });
  });
  it('is unknown when the clock stands still', () => {
    expect(measureMatmulRate(createManualClock())).toBeUndefined();
  });
  it('is a plausible number on this machine, and leaves no tensor behind', () => {
    const before = memory().numTensors;
    const rate = measureMatmulRate({ nowMs: () => performance.now() }, { durationMs: 50 });
    expect(rate?.flopsPerSecond).toBeGreaterThan(1e9);
    expect(rate?.flopsPerSecond).toBeLessThan(1e15);
    expect(memory().numTensors).toBe(before);
  });
});
