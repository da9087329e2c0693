import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { firstNotFinite, transposeMatrix } from './transpose.kernel.ts';

const size = fc.integer({ min: 0, max: 70 });

describe('transposeMatrix', () => {
  it('puts every element at its mirrored place, across blocks', () => {
    fc.assert(
      fc.property(size, size, (rows, columns) => {
        const values = Float32Array.from({ length: rows * columns }, (_, at) => at);
        const turned = transposeMatrix(values, rows, columns);
        for (let row = 0; row < rows; row += 1) {
          for (let column = 0; column < columns; column += 1) {
            expect(turned[column * rows + row]).toBe(row * columns + column);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it('is undone by itself and leaves its input alone', () => {
    fc.assert(
      fc.property(size, size, (rows, columns) => {
        const values = Float32Array.from({ length: rows * columns }, (_, at) => Math.sin(at));
        const copy = values.slice();
        expect(transposeMatrix(transposeMatrix(values, rows, columns), columns, rows)).toEqual(copy);
        expect(values).toEqual(copy);
      }),
      { numRuns: 40 },
    );
  });
});

describe('firstNotFinite', () => {
  it('finds the first NaN or infinity', () => {
    expect(firstNotFinite(Float32Array.of(1, 2, Infinity, NaN))).toBe(2);
    expect(firstNotFinite(Float32Array.of(NaN))).toBe(0);
    expect(firstNotFinite(Float32Array.of(1, -1e38))).toBe(-1);
    expect(firstNotFinite(new Float32Array(0))).toBe(-1);
  });
});
