import { beforeAll, describe, expect, it } from 'vitest';

import { linear } from './oracles.ts';
import { createNumbers, differences, expectClose, matrix, run, startNative } from './start-native.ts';

beforeAll(startNative);

/** Rows, inputs, outputs: one row, few rows, tile edges, several depth and column blocks, odd everything. */
const shapes = [
  [1, 1, 1],
  [1, 37, 53],
  [4, 256, 64],
  [7, 129, 70],
  [8, 16, 300],
  [9, 31, 17],
  [67, 300, 131],
  [257, 513, 269],
  [500, 40, 33],
] as const;

describe('MoebiusLinear', () => {
  it.each(shapes)('multiplies %i rows of %i inputs into %i outputs', (M, I, O) => {
    const numbers = createNumbers(M + I + O);
    const [x, w] = [numbers(M * I), numbers(O * I)];
    const [y] = run('MoebiusLinear', [matrix(x, M, I), matrix(w, O, I)]);
    expectClose(y!, linear(x, w, M, I));
  });

  it.each([1, 5, 50])('shares %i rows of input between weights of different sizes', (M) => {
    const numbers = createNumbers(M);
    const [x, a, b, c] = [numbers(M * 40), numbers(70 * 40), numbers(3 * 40), numbers(300 * 40)];
    const outputs = run('MoebiusLinear', [
      matrix(x, M, 40),
      matrix(a, 70, 40),
      matrix(b, 3, 40),
      matrix(c, 300, 40),
    ]);
    for (const [l, w] of [a, b, c].entries()) expectClose(outputs[l]!, linear(x, w, M, 40));
  });

  it('gives the same bytes for a row alone in its kernel path and beside others', () => {
    const numbers = createNumbers(3);
    const [x, w] = [numbers(40 * 96), numbers(77 * 96)];
    const [all] = run('MoebiusLinear', [matrix(x, 40, 96), matrix(w, 77, 96)]);
    const [part] = run('MoebiusLinear', [matrix(x.subarray(0, 20 * 96), 20, 96), matrix(w, 77, 96)]);
    expect(all!.slice(0, 20 * 77)).toEqual(part!);
  });

  it('adds a residual in MoebiusLinearAdd', () => {
    const numbers = createNumbers(4);
    const [x, w, r] = [numbers(3 * 50), numbers(21 * 50), numbers(63)];
    const [y] = run('MoebiusLinearAdd', [matrix(x, 3, 50), matrix(w, 21, 50), matrix(r, 3, 21)]);
    expectClose(
      y!,
      linear(x, w, 3, 50).map((value, i) => value + r[i]!),
    );
  });

  it('gives no rows for no rows', () => {
    expect(run('MoebiusLinear', [matrix([], 0, 5), matrix([1, 2, 3, 4, 5], 1, 5)])[0]!.length).toBe(0);
  });

  it('refuses weights of another width', () => {
    expect(() => run('MoebiusLinear', [matrix([1, 2], 1, 2), matrix([1, 2, 3], 1, 3)])).toThrow(
      /weight: must have shape \[\?,2\], got \[1,3\]/,
    );
  });
});

describe('MoebiusLinearGrad', () => {
  it.each([
    [1, 5, 3],
    [9, 17, 7],
    [23, 6, 19],
  ])('matches central differences at %i × %i → %i', (M, I, O) => {
    const numbers = createNumbers(M * I + O);
    const [x, a, b, dya, dyb] = [
      numbers(M * I),
      numbers(O * I),
      numbers(2 * I),
      numbers(M * O),
      numbers(M * 2),
    ];
    const f = ([x, a, b]: readonly Float64Array[]): Float64Array =>
      Float64Array.from([...linear(x!, a!, M, I), ...linear(x!, b!, M, I)]);
    const want = differences(f, [x, a, b], [...dya, ...dyb]);
    const inputs = [matrix(x, M, I), matrix(a, O, I), matrix(b, 2, I), matrix(dya, M, O), matrix(dyb, M, 2)];
    const got = run('MoebiusLinearGrad', inputs);
    for (const [i, gradient] of want.entries()) expectClose(got[i]!, gradient);
  });

  it('matches the forward oracle on several blocks', () => {
    const [M, I, O] = [531, 270, 301];
    const numbers = createNumbers(12);
    const [x, w, dy] = [numbers(M * I), numbers(O * I), numbers(M * O)];
    const [dx, dw] = run('MoebiusLinearGrad', [matrix(x, M, I), matrix(w, O, I), matrix(dy, M, O)]);
    const turned = (a: Float64Array, rows: number, columns: number): Float64Array =>
      a.map((_, i) => a[(i % rows) * columns + Math.floor(i / rows)]!);
    expectClose(dx!, linear(dy, turned(w, O, I), M, O));
    expectClose(dw!, linear(turned(dy, M, O), turned(x, M, I), O, M));
  });
});
