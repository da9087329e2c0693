/**
 * @file vitest matchers for tensors, and the check that a test frees what it makes.
 *
 * Importing `@moebius/tensor/testing` adds the matchers' types; {@link installTensorMatchers} adds the matchers.
 */
import { Tensor } from '@tensorflow/tfjs';
import { afterEach, beforeEach, expect } from 'vitest';

import { countTensors, readHostSync } from '../ownership.ts';

/** Tolerances of `toBeAllClose`. */
export interface Tolerance {
  /** Relative; default 1e-4. */
  readonly rtol?: number;
  /** Absolute; default 1e-5. */
  readonly atol?: number;
}

/** Numbers in any form: a tensor `[…]`, nested or flat arrays. */
export type Numbers = Tensor | ArrayLike<number> | readonly (readonly number[])[];

declare module 'vitest' {
  // oxlint-disable-next-line typescript/no-explicit-any -- must repeat the declaration it extends
  interface Matchers<T = any> {
    /** Every number within `atol + rtol · |expected|`; NaN is never close. */
    toBeAllClose(expected: Numbers, tolerance?: Tolerance): T;
    /** The tensor has exactly this shape. */
    toHaveShape(shape: readonly number[]): T;
  }
}

/** Adds `toBeAllClose` and `toHaveShape` to vitest's `expect`. */
export function installTensorMatchers(): void {
  expect.extend({
    toBeAllClose: (received: Numbers, expected: Numbers, tolerance: Tolerance = {}) => {
      const fault = findFar(flat(received), flat(expected), tolerance);
      return { pass: fault === undefined, message: () => fault ?? 'expected numbers to differ' };
    },
    toHaveShape: (received: Tensor, shape: readonly number[]) => {
      const got = received.shape.join(', ');
      const wanted = shape.join(', ');
      return { pass: got === wanted, message: () => `expected shape [${wanted}], got [${got}]` };
    },
  });
}

/**
 * Fails every test of the file that leaves more (or fewer) live tensors than it found. Call it once at the top level,
 * after the engine's hook.
 */
export function expectNoTensorLeak(): void {
  let before = 0;
  beforeEach(() => {
    before = countTensors();
  });
  afterEach(() => {
    const left = countTensors() - before;
    expect(left, `${left} tensors leaked (or were freed) by this test`).toBe(0);
  });
}

function flat(numbers: Numbers): number[] {
  if (numbers instanceof Tensor) return Array.from(readHostSync(numbers));
  return (Array.from(numbers as ArrayLike<number | readonly number[]>) as unknown[]).flat(4) as number[];
}

function findFar(received: number[], expected: number[], tolerance: Tolerance): string | undefined {
  const { rtol = 1e-4, atol = 1e-5 } = tolerance;
  if (received.length !== expected.length) {
    return `expected ${expected.length} numbers, got ${received.length}`;
  }
  let worst: { index: number; excess: number } | undefined;
  for (const [index, wanted] of expected.entries()) {
    const got = received[index]!;
    const excess = got === wanted ? 0 : Math.abs(got - wanted) / (atol + rtol * Math.abs(wanted));
    if (!(excess <= 1) && !(excess <= (worst?.excess ?? 1))) worst = { index, excess };
  }
  if (worst === undefined) return undefined;
  const { index, excess } = worst;
  return `numbers differ, worst at ${index} of ${expected.length}: expected ${expected[index]}, got ${received[index]} (${excess.toPrecision(3)} times the tolerance rtol ${rtol}, atol ${atol})`;
}
