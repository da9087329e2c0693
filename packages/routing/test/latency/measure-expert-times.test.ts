/** @file Measuring an expert: a clock that is told when to move, the table's form, leaks, bad input. */
import { countTensors, createEngine } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { gatedExpert, identityExpert } from '../../src/index.ts';
import { measureExpertTimes, parseExpertTimes } from '../../src/latency/index.ts';

beforeAll(async () => {
  await createEngine({ engine: 'native' });
});

/** Each reading is so many milliseconds after the one before; the list begins anew at its end. */
function scripted(steps: readonly number[]): { nowMs(): number } {
  let [now, read] = [0, 0];
  return { nowMs: () => (now += steps[read++ % steps.length] ?? 0) };
}

const size = { modelWidth: 8, hiddenWidth: 16 };

describe('measureExpertTimes', () => {
  it('takes the median of the repetitions, without the first run, and never falls', () => {
    // Readings come in pairs: a pause, then how long a run takes. Four runs a row count, the first does not count.
    const runs = [900, 3, 1, 2, 900, 1, 1, 1, 900, 9, 7, 8].flatMap((ms) => [0, ms]);
    const times = measureExpertTimes({
      kind: gatedExpert(),
      size,
      clock: scripted(runs),
      rows: [64, 1, 8, 8],
      repetitions: 3,
    });
    expect(times).toEqual({ rows: [1, 8, 64], seconds: [0.002, 0.002, 0.008] });
  });
  it('makes a table that a latency model takes, and leaves no tensor', () => {
    const before = countTensors();
    const clock = { nowMs: () => performance.now() };
    const times = measureExpertTimes({ kind: gatedExpert(), size, clock, rows: [1, 32], repetitions: 2 });
    expect(parseExpertTimes(times)).toEqual(times);
    const none = { modelWidth: 8, hiddenWidth: 0 };
    measureExpertTimes({ kind: identityExpert(), size: none, clock, rows: [2], repetitions: 1 });
    expect(countTensors()).toBe(before);
  });
  it('tells every fault at once', () => {
    const bad = { rows: [0, 1.5], repetitions: 0, size: { modelWidth: 0, hiddenWidth: -1 } };
    expect(() => measureExpertTimes({ kind: gatedExpert(), clock: scripted([1]), ...bad })).toThrow(
      'measureExpertTimes: must be a valid configuration, got 5 faults:\n' +
        '  rows[0]: must be an integer of at least 1, got 0 (count rows, runs and widths)\n' +
        '  rows[1]: must be an integer of at least 1, got 1.5 (count rows, runs and widths)\n' +
        '  repetitions: must be an integer of at least 1, got 0 (count rows, runs and widths)\n' +
        '  size.modelWidth: must be an integer of at least 1, got 0 (count rows, runs and widths)\n' +
        '  size.hiddenWidth: must be an integer of at least 0, got -1 (count rows, runs and widths)',
    );
  });
});
