/**
 * @file How fast the running engine multiplies matrices: the limit that a model's speed is compared with (MFU).
 *
 * One square product `x Wᵀ` as layers make it, repeated; the fastest repetition counts, because other programs only
 * ever make it slower. The side grows until a product is long enough to be timed, so that slow engines answer soon.
 */
import type { Clock } from '@moebius/core';
import { fill, slice } from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';

import { linearForward } from '../ops/linear.ts';
import { disposeTree, readHostSync } from '../ownership.ts';

/** A measured rate. */
export interface MatmulRate {
  /** Floating point operations per second, 2·n³ for a product of side n. */
  readonly flopsPerSecond: number;
  /** Rows and columns of the matrices. */
  readonly side: number;
  /** Products that were timed. */
  readonly repetitions: number;
}

const smallestSide = 64;
const largestSide = 1024;
/** A product of this side takes longer than the finest tick of any clock; where it takes no time, the clock stands still. */
const timeableSide = 256;
/** Twice the side is eight times the work; a product must fit twice into the time there is. */
const growth = 16;

/**
 * Measures the rate of float32 products; needs a running engine and blocks for about `durationMs`.
 *
 * @param clock - what times it
 * @param options - `durationMs`: how long to repeat (default 300)
 * @returns undefined when the clock did not move
 * @example
 * ```ts
 * await createEngine();
 * const rate = measureMatmulRate({ nowMs: () => performance.now() });
 * console.log(rate?.flopsPerSecond);
 * ```
 */
export function measureMatmulRate(
  clock: Clock,
  options: { readonly durationMs?: number } = {},
): MatmulRate | undefined {
  const { durationMs = 300 } = options;
  const begun = clock.nowMs();
  for (let side = smallestSide; ; side *= 2) {
    const operands = createOperands(side);
    try {
      timeProduct(operands, clock);
      const first = timeProduct(operands, clock);
      if (first <= 0 && side >= timeableSide) return undefined;
      if (side < largestSide && growth * first < durationMs) continue;
      return repeat(operands, { clock, first, until: begun + durationMs });
    } finally {
      disposeTree([operands.x, operands.weight]);
    }
  }
}

interface Operands {
  /** float32 `[side, side]`. */
  readonly x: Tensor2D;
  /** float32 `[side, side]`. */
  readonly weight: Tensor2D;
  readonly side: number;
}

function createOperands(side: number): Operands {
  return { x: fill([side, side], 0.5), weight: fill([side, side], 2), side };
}

interface Repeating {
  readonly clock: Clock;
  /** Time of the first product. */
  readonly first: number;
  /** When to end. */
  readonly until: number;
}

function repeat(operands: Operands, { clock, first, until }: Repeating): MatmulRate {
  let fastest = first;
  let repetitions = 1;
  while (clock.nowMs() < until) {
    fastest = Math.min(fastest, timeProduct(operands, clock));
    repetitions += 1;
  }
  const { side } = operands;
  return { flopsPerSecond: (2 * side ** 3) / (fastest / 1000), side, repetitions };
}

/** Milliseconds of one product. One element is read back: an engine may answer before it has worked. */
function timeProduct({ x, weight }: Operands, clock: Clock): number {
  const begun = clock.nowMs();
  const { value, saved } = linearForward(x, weight);
  const corner = slice(value, [0, 0], [1, 1]);
  readHostSync(corner);
  const elapsed = clock.nowMs() - begun;
  disposeTree([value, saved, corner]);
  return elapsed;
}
