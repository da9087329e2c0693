/**
 * @file Central differences: the judge of every backward.
 */
import { tensor as makeTensor } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { readHostSync } from '../ownership.ts';

/** Options of {@link centralDifferences}. */
export interface DifferenceOptions {
  /** Step; default 1e-2, which balances float32 rounding against curvature. */
  readonly step?: number;
}

/**
 * Gradient of `Σ dy · f(x)` with respect to one input, by central differences. The sum is taken in double precision.
 *
 * @param f - value of the function at `x`, float32 `[…]`; what it returns is freed
 * @param x - where, `[…]`, borrowed
 * @param dy - float32 `[…]` of the value's shape, borrowed
 * @returns `[…]` as a flat list
 */
export function centralDifferences(
  f: (x: Tensor) => Tensor,
  x: Tensor,
  dy: Tensor,
  options: DifferenceOptions = {},
): number[] {
  const { step = 1e-2 } = options;
  const base = Float32Array.from(readHostSync(x));
  const weights = Array.from(readHostSync(dy));
  const at = (index: number, delta: number): { total: number; place: number } => {
    const moved = base.slice();
    moved[index]! += delta;
    const input = makeTensor(moved, x.shape, 'float32');
    const value = f(input);
    const host = readHostSync(value);
    let total = 0;
    for (const [i, weight] of weights.entries()) total += weight * host[i]!;
    const place = moved[index]!;
    input.dispose();
    value.dispose();
    return { total, place };
  };
  return Array.from(base, (_, index) => {
    const above = at(index, step);
    const below = at(index, -step);
    return (above.total - below.total) / (above.place - below.place);
  });
}
