import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { bitsOf, byteLength, dtypes, elementCount, isDType } from './dtype.ts';

describe('dtypes', () => {
  it('are the 22 of the safetensors format, each of a known size', () => {
    expect(dtypes).toHaveLength(22);
    expect(dtypes.map(bitsOf)).toEqual([
      8, 4, 6, 6, 8, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16, 32, 32, 32, 64, 64, 64, 64,
    ]);
    expect(dtypes.every(isDType)).toBe(true);
    expect(isDType('F128')).toBe(false);
    expect(isDType('__proto__')).toBe(false);
  });
});

describe('elementCount', () => {
  it('equals the product in big integers, or undefined when that is not safe', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2 ** 30 }), { maxLength: 4 }), (shape) => {
        const exact = shape.reduce((product, size) => product * BigInt(size), 1n);
        const expected = exact <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(exact) : undefined;
        expect(elementCount(shape)).toBe(expected);
      }),
    );
  });

  it('is 1 for a scalar and 0 for any empty dimension, however large the others', () => {
    expect(elementCount([])).toBe(1);
    expect(elementCount([2 ** 40, 2 ** 40, 0])).toBe(0);
  });

  it.each([[-1], [1.5], [NaN], [2 ** 53]])('refuses the dimension %s', (size) => {
    expect(elementCount([size])).toBeUndefined();
    expect(elementCount([0, size])).toBeUndefined();
  });
});

describe('byteLength', () => {
  it('packs sub-byte elements and refuses those that leave a byte unfilled', () => {
    expect(byteLength('F4', [2, 3])).toBe(3);
    expect(byteLength('F4', [3])).toBeUndefined();
    expect(byteLength('F6_E2M3', [4])).toBe(3);
    expect(byteLength('F6_E3M2', [3])).toBeUndefined();
    expect(byteLength('C64', [5])).toBe(40);
    expect(byteLength('F32', [2 ** 50])).toBeUndefined();
  });
});
