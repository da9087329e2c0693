import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { editDistance, nearest } from './nearest.ts';

/** Edit distance with neighbour swaps by plain recursion. */
function slow(a: string, b: string): number {
  if (a === '' || b === '') return a.length + b.length;
  const last = a.at(-1) === b.at(-1) ? 0 : 1;
  const options = [
    slow(a.slice(0, -1), b) + 1,
    slow(a, b.slice(0, -1)) + 1,
    slow(a.slice(0, -1), b.slice(0, -1)) + last,
  ];
  if (a.length > 1 && b.length > 1 && a.at(-1) === b.at(-2) && a.at(-2) === b.at(-1)) {
    options.push(slow(a.slice(0, -2), b.slice(0, -2)) + 1);
  }
  return Math.min(...options);
}

describe('editDistance', () => {
  it('equals the recursive definition', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 5 });
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(editDistance(a, b)).toBe(slow(a, b));
      }),
    );
  });
});

describe('nearest', () => {
  it.each([
    ['topk', 'top-k'],
    ['exprets', 'experts'],
    ['EXPERTS', 'experts'],
    ['x', undefined],
    ['completely-different', undefined],
  ])('finds for %s: %s', (name, expected) => {
    expect(nearest(name, ['top-k', 'experts', 'expert-choice'])).toBe(expected);
  });

  it('takes the first of equally close names and finds nothing in nothing', () => {
    expect(nearest('bat', ['cat', 'hat'])).toBe('cat');
    expect(nearest('bat', [])).toBeUndefined();
  });

  it('stays fast on absurdly long names', () => {
    expect(nearest('a'.repeat(1_000_000), ['a'.repeat(64), 'b'])).toBe('a'.repeat(64));
  });
});
