/**
 * @file Time that only goes forward, and not by leaps, over a clock that may do anything.
 *
 * The clock of a run should be monotonic (`performance.now()`), and then nothing here has an effect. One that is set,
 * because somebody passed the time of day or because the machine slept, must not end a run of limited time at once,
 * nor keep it going for ever, nor give a step negative milliseconds.
 */
import type { Clock } from '@moebius/core';

import type { TrainConfig } from './train-config.ts';

/**
 * Makes time steady.
 *
 * @param clock - borrowed
 * @param mostMs - no reading moves time by more than this
 */
export function createSteadyClock(clock: Clock, mostMs: number): Clock {
  let before = Number.NaN; // the first reading is where time begins
  let steady = 0;
  return {
    nowMs() {
      const now = clock.nowMs();
      if (!Number.isFinite(now)) return steady;
      const passed = now - before;
      before = now;
      if (passed > 0) steady += Math.min(passed, mostMs);
      return steady;
    },
  };
}

const hourMs = 3_600_000;

/** One leap costs a run of limited time a quarter of it at most; others only show time, and a leap is cut to an hour. */
export function largestLeapMs({ duration }: Pick<TrainConfig, 'duration'>): number {
  return 'minutes' in duration ? (duration.minutes * 60_000) / 4 : hourMs;
}
