import { beforeAll, describe, expect, it } from 'vitest';

import type { Tensor } from '@tensorflow/tfjs';

import { rmsNorm, rope } from './oracles.ts';
import {
  createNumbers,
  differences,
  expectClose,
  indices,
  matrix,
  run,
  startNative,
  vector,
} from './start-native.ts';

beforeAll(startNative);

const epsilon = 1e-5;

describe('MoebiusRmsNorm', () => {
  it.each([
    [1, 1],
    [3, 7],
    [130, 5],
    [65, 256],
  ])('normalises %i rows of %i, with the gradient of central differences', (T, D) => {
    const numbers = createNumbers(T * D);
    const [x, w, dy] = [numbers(T * D, 3), numbers(D), numbers(T * D)];
    const [y, inv] = run('MoebiusRmsNorm', [matrix(x, T, D), vector(w)], { epsilon });
    expectClose(y!, rmsNorm(x, w, epsilon));
    const inputs = [matrix(x, T, D), vector(w), vector(inv!), matrix(dy, T, D)];
    const [dx, dw] = run('MoebiusRmsNormGrad', inputs);
    if (T * D < 1000) {
      const want = differences(([x, w]) => rmsNorm(x!, w!, epsilon), [x, w], dy);
      expectClose(dx!, want[0]!);
      expectClose(dw!, want[1]!, 5e-4);
      return;
    }
    // Larger: y = x · inv · w is linear in w, so the weight gradient is the sum of dy · y / w.
    const unit = rmsNorm(x, new Float64Array(D).fill(1), epsilon);
    const want = Float64Array.from({ length: D }, (_, d) => {
      let total = 0;
      for (let at = d; at < T * D; at += D) total += dy[at]! * unit[at]!;
      return total;
    });
    expectClose(dw!, want, 5e-4);
  });

  it('gives the same weight gradient twice', () => {
    const numbers = createNumbers(9);
    const [x, w, inv, dy] = [numbers(777 * 40), numbers(40), numbers(777), numbers(777 * 40)];
    const gradient = (): Float32Array[] =>
      run('MoebiusRmsNormGrad', [matrix(x, 777, 40), vector(w), vector(inv), matrix(dy, 777, 40)]);
    expect(gradient()).toEqual(gradient());
  });

  it('adds the slope that passes the norm by', () => {
    const numbers = createNumbers(10);
    const [x, w, inv, dy, residual] = [
      numbers(7 * 19),
      numbers(19),
      numbers(7),
      numbers(7 * 19),
      numbers(7 * 19),
    ];
    const inputs = (): Tensor[] => [matrix(x, 7, 19), vector(w), vector(inv), matrix(dy, 7, 19)];
    const [dx, dw] = run('MoebiusRmsNormGrad', inputs());
    const [sum, same] = run('MoebiusRmsNormGradAdd', [...inputs(), matrix(residual, 7, 19)]);
    expectClose(
      sum!,
      dx!.map((value, i) => value + residual[i]!),
      1e-6,
    );
    expect(same).toEqual(dw);
  });

  it('refuses a weight of another width', () => {
    expect(() => run('MoebiusRmsNorm', [matrix([1, 2], 1, 2), vector([1])], { epsilon })).toThrow(
      /weight: must have shape \[2\], got \[1\]/,
    );
  });
});

/** Norm (when `norm`) per head, then rotation of the first 2 · half elements. */
interface HeadCase {
  readonly T: number;
  readonly heads: number;
  readonly C: number;
  readonly half: number;
  readonly norm: boolean;
}

const cases: HeadCase[] = [
  { T: 1, heads: 1, C: 2, half: 1, norm: true },
  { T: 5, heads: 3, C: 10, half: 5, norm: true },
  { T: 70, heads: 2, C: 12, half: 6, norm: true },
  { T: 7, heads: 2, C: 10, half: 3, norm: true },
  { T: 6, heads: 3, C: 40, half: 20, norm: false },
  { T: 6, heads: 3, C: 9, half: 0, norm: true },
];

describe('MoebiusHeadNormRope', () => {
  it.each(cases)('normalises and rotates $T rows of $heads × $C (half $half, norm $norm)', (c) => {
    const { T, heads, C, half, norm } = c;
    const [Z, P] = [heads * C, 11];
    const numbers = createNumbers(T + Z);
    const [x, w, angles, dy] = [numbers(T * Z), numbers(C), numbers(P * half, 3), numbers(T * Z)];
    const positions = Array.from({ length: T }, (_, t) => (t * 7) % P);
    const oracle = ([x, w]: readonly Float64Array[]): Float64Array =>
      rope(norm ? rmsNorm(x!, w!, epsilon) : x!, { Z, C, half }, angles, positions);
    const inputs = (): Tensor[] => [
      matrix(x, T, Z),
      vector(norm ? w : []),
      matrix(angles.map(Math.cos), half > 0 ? P : 0, half),
      matrix(angles.map(Math.sin), half > 0 ? P : 0, half),
      indices(half > 0 ? positions : []),
    ];
    const [y, inv] = run('MoebiusHeadNormRope', inputs(), { heads, epsilon });
    expectClose(y!, oracle([x, w]));
    const saved = matrix(inv!, norm ? T : 0, norm ? heads : 0);
    const [dx, dw] = run('MoebiusHeadNormRopeGrad', [...inputs(), saved, matrix(dy, T, Z)], { heads });
    const want = differences(oracle, [x, w], dy);
    expectClose(dx!, want[0]!);
    if (norm) expectClose(dw!, want[1]!, 5e-4);
    else expect(dw!.length).toBe(0);
  });

  it('refuses a position outside the tables', () => {
    const inputs = [matrix([1, 2], 1, 2), vector([]), matrix([1], 1, 1), matrix([0], 1, 1), indices([1])];
    expect(() => run('MoebiusHeadNormRope', inputs, { heads: 1, epsilon })).toThrow(
      /positions\[0\]: must be in \[0, 1\), got 1/,
    );
  });
});
