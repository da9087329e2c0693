/**
 * @file Measuring one expert at several numbers of rows: the table that a latency model reads.
 *
 * Letters: `R` rows, `D` model width.
 */
import { configurationError, createRng } from '@moebius/core';
import type { Clock, Fault } from '@moebius/core';
import { disposeTree, readHostSync, tensor } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';

import type { ExpertTimes } from './expert-times.ts';
import { partShape } from '../define-expert.ts';
import type { ExpertKind, ExpertParameters, ExpertSize } from '../define-expert.ts';
import { expertForward } from '../run-expert.ts';

/** How to measure. */
export interface MeasureExpertOptions {
  /** What an expert computes. */
  readonly kind: ExpertKind;
  /** Widths `D` and `F` of the expert. */
  readonly size: ExpertSize;
  /** What times it. */
  readonly clock: Clock;
  /** Numbers of rows to measure; default 1, 4, 16, … 4096. Sorted, each once. */
  readonly rows?: readonly number[];
  /** Runs of each, of which the median counts; one more goes before them. Default 7. */
  readonly repetitions?: number;
}

/**
 * Times the forward pass of one expert with random weights over random rows float32 `[R, D]`, its result read back. Blocks the event loop meanwhile. A time
 * below that of fewer rows is noise and becomes it, so that the table never falls.
 *
 * @param options - the expert, a clock, and what to measure
 * @returns median seconds by rows
 * @throws `configuration` listing every fault at once
 * @example
 * ```ts
 * const clock = { nowMs: () => performance.now() };
 * const size = { modelWidth: 64, hiddenWidth: 128 };
 * const times = measureExpertTimes({ kind: gatedExpert(), size, clock, rows: [1, 16, 256] });
 * ```
 */
export function measureExpertTimes(options: MeasureExpertOptions): ExpertTimes {
  const { kind, size, repetitions = 7 } = options;
  assertOptions(options);
  const rows = [...new Set(options.rows ?? [1, 4, 16, 64, 256, 1024, 4096])].toSorted((a, b) => a - b);
  const parts = Object.keys(kind.parts).map((part) => [part, partShape(kind, part, size)] as const);
  const parameters = Object.fromEntries(parts.map(([part, shape]) => [part, randomTensor(part, shape)]));
  try {
    let highest = 0;
    const seconds = rows.map((count) => {
      highest = Math.max(highest, medianSeconds(options, { parameters, rows: count, repetitions }));
      return highest;
    });
    return Object.freeze({ rows: Object.freeze(rows), seconds: Object.freeze(seconds) });
  } finally {
    disposeTree(parameters);
  }
}

interface Measuring {
  readonly parameters: ExpertParameters;
  readonly rows: number;
  readonly repetitions: number;
}

function medianSeconds(options: MeasureExpertOptions, work: Measuring): number {
  const { kind, size, clock } = options;
  const { parameters, rows, repetitions } = work;
  const x = randomTensor('rows', [rows, size.modelWidth]) as Tensor2D;
  try {
    const samples: number[] = [];
    for (let run = -1; run < repetitions; run += 1) {
      const begun = clock.nowMs();
      const output = expertForward(kind, { x, parameters }, { layer: 0, expert: 0 });
      try {
        readHostSync(output.value);
      } finally {
        disposeTree(output);
      }
      const seconds = (clock.nowMs() - begun) / 1000;
      if (run >= 0) samples.push(seconds);
    }
    const sorted = samples.toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? 0;
  } finally {
    x.dispose();
  }
}

function randomTensor(name: string, shape: readonly number[]): Tensor {
  const values = new Float32Array(shape.reduce((product, length) => product * length, 1));
  createRng([0]).fork(name).fillNormal(values, { standardDeviation: 0.02 });
  return tensor(values, [...shape]);
}

function assertOptions({ rows, repetitions, size }: MeasureExpertOptions): void {
  const faults: Fault[] = [];
  const add = (path: string, got: number | string, least = 1): void => {
    const expectation = `must be an integer of at least ${least}`;
    faults.push({ path, expectation, got: String(got), remedy: 'count rows, runs and widths' });
  };
  const isCount = (value: number, least = 1): boolean => Number.isInteger(value) && value >= least;
  if (rows !== undefined && rows.length === 0) add('rows', 'an empty list');
  for (const [at, count] of (rows ?? []).entries()) if (!isCount(count)) add(`rows[${at}]`, count);
  if (repetitions !== undefined && !isCount(repetitions)) add('repetitions', repetitions);
  if (!isCount(size.modelWidth)) add('size.modelWidth', size.modelWidth);
  if (!isCount(size.hiddenWidth, 0)) add('size.hiddenWidth', size.hiddenWidth, 0);
  if (faults.length > 0) throw configurationError('measureExpertTimes', faults);
}
