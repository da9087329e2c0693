/**
 * @file What the kits are made of: the test runner's two functions, comparisons, seeded tensors, differences, leak counts.
 *
 * The kits import no test runner: they take `describe` and `it`, so vitest, jest and node:test all run them.
 */
import { MoebiusError, createRng } from '@moebius/core';
import type { Rng } from '@moebius/core';
import { countTensors, readHostSync, tensor } from '@moebius/tensor';
import type { Tensor } from '@moebius/tensor';

/** The two functions that a kit needs from a test runner. */
export interface TestApi {
  /** Groups tests. */
  readonly describe: (name: string, body: () => void) => void;
  /** One test. */
  readonly it: (name: string, body: () => void) => void;
}

/** How far two numbers may be apart: `|a - b| ≤ absolute + relative·|b|`. */
export interface Tolerance {
  /** Default 1e-3. */
  readonly relative?: number;
  /** Default 1e-4. */
  readonly absolute?: number;
}

/**
 * @throws `plugin` with the message when the condition is false
 */
export function check(condition: boolean, message: string): void {
  if (!condition) throw new MoebiusError({ code: 'plugin', message: `conformance: ${message}` });
}

/**
 * Holds numbers to expected ones.
 *
 * @throws `plugin` naming the worst place and both numbers
 */
export function checkClose(
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  subject: string,
  tolerance: Tolerance = {},
): void {
  check(
    got.length === expected.length,
    `${subject}: must have ${expected.length} numbers, got ${got.length}`,
  );
  const { relative = 1e-3, absolute = 1e-4 } = tolerance;
  let worst = -1;
  let excess = 0;
  for (let i = 0; i < got.length; i += 1) {
    const difference = Math.abs(got[i]! - expected[i]!) - absolute - relative * Math.abs(expected[i]!);
    if (difference > excess || Number.isNaN(difference)) {
      worst = i;
      excess = Number.isNaN(difference) ? Infinity : difference;
    }
  }
  check(worst < 0, `${subject}[${worst}]: must be ${expected[worst]} within tolerance, got ${got[worst]}`);
}

/**
 * @throws `plugin` when the bytes differ
 */
export function checkSame(got: ArrayLike<number>, expected: ArrayLike<number>, subject: string): void {
  check(
    got.length === expected.length,
    `${subject}: must have ${expected.length} numbers, got ${got.length}`,
  );
  for (let i = 0; i < got.length; i += 1) {
    check(Object.is(got[i], expected[i]), `${subject}[${i}]: must be ${expected[i]} exactly, got ${got[i]}`);
  }
}

/**
 * Checks that a call throws one of ours.
 *
 * @throws `plugin` when it does not
 */
export function checkThrows(call: () => unknown, code: string, subject: string): void {
  let thrown: unknown = null;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  const got = thrown === null ? 'nothing' : String((thrown as { code?: unknown }).code ?? thrown);
  check(got === code, `${subject}: must throw a "${code}" error, got ${got}`);
}

/** A generator for a kit, by name. */
export function kitRng(label: string): Rng {
  return createRng(['moebius', 'routing', 'testing'].join(' ')).fork(label);
}

/** Normal deviates. */
export function randomValues(rng: Rng, size: number, standardDeviation: number = 1): Float32Array {
  const values = new Float32Array(size);
  rng.fillNormal(values, { standardDeviation });
  return values;
}

/** A tensor of normal deviates `[…shape]`; caller owns. */
export function randomTensor<T extends Tensor>(
  rng: Rng,
  shape: readonly number[],
  standardDeviation: number = 1,
): T {
  const size = shape.reduce((product, length) => product * length, 1);
  return tensor(randomValues(rng, size, standardDeviation), [...shape]) as T;
}

/**
 * Runs a body and checks that the number of live tensors is what it was.
 *
 * @throws `plugin` with the difference
 */
export function withoutLeak<T>(subject: string, body: () => T): T {
  const before = countTensors();
  const result = body();
  const left = countTensors() - before;
  check(left === 0, `${subject}: must leave 0 tensors, got ${left} (dispose what is not returned)`);
  return result;
}

/**
 * The values of a tensor `[…]`, copied to the host.
 *
 * @param source - borrowed
 */
export function valuesOf(source: Tensor): Float32Array {
  return Float32Array.from(readHostSync(source));
}

/**
 * Derivative of a scalar function by central differences with one Richardson step: error O(h⁴), so that a large h keeps float32
 * rounding small.
 *
 * @param f - function of the values; must not keep them; NaN where it cannot be compared (a selection changed)
 * @param at - point
 * @param step - h, default 0.02
 * @returns one number for each entry; NaN where f has a kink within h (differences at h and h/2 disagree) or is NaN
 */
export function differences(
  f: (values: Float32Array) => number,
  at: Float32Array,
  step: number = 0.02,
): Float64Array {
  const central = (index: number, h: number): number => {
    const moved = (by: number): number => {
      const values = at.slice();
      values[index] = (values[index] ?? 0) + by;
      return f(values);
    };
    return (moved(h) - moved(-h)) / (2 * h);
  };
  return Float64Array.from(at, (_, index) => {
    const [coarse, fine] = [central(index, step), central(index, step / 2)];
    return Math.abs(coarse - fine) > 1e-3 * (1 + Math.abs(fine)) ? NaN : (4 * fine - coarse) / 3;
  });
}

/** What {@link checkGradient} compares. */
export interface GradientCheck extends Tolerance {
  /** For messages. */
  readonly subject: string;
  /** Where the gradient was taken. */
  readonly at: Float32Array;
  /** The function. */
  readonly f: (values: Float32Array) => number;
  /** Step of the differences. */
  readonly step?: number;
}

/**
 * Holds a gradient to central differences wherever these exist; they must exist for more than half of the entries.
 *
 * @param gradient - one number for each entry of `at`
 * @param against - the function and the point
 * @throws `plugin`
 */
export function checkGradient(gradient: ArrayLike<number>, against: GradientCheck): void {
  const { subject, at, f, step } = against;
  check(gradient.length === at.length, `${subject}: must have ${at.length} entries, got ${gradient.length}`);
  const expected = differences(f, at, step);
  const usable = [...expected.keys()].filter((i) => !Number.isNaN(expected[i]));
  check(
    usable.length * 2 > expected.length,
    `${subject}: differences must exist for most entries, got ${usable.length} of ${expected.length} (kinks, or the selection changes: other sizes)`,
  );
  checkClose(
    usable.map((i) => gradient[i]!),
    usable.map((i) => expected[i]!),
    subject,
    against,
  );
}

/** Σ a·b in float64. */
export function inner(left: ArrayLike<number>, right: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < left.length; i += 1) total += left[i]! * right[i]!;
  return total;
}
