import { expect, it } from 'vitest';

import { addRoutingSumsInto } from './routing-sums.kernel.ts';

/** Two tokens, three experts, two per token: token 0 to experts 2 and 0, token 1 to 2 and 1. */
const pairs = {
  tokenOffsets: Int32Array.of(0, 2, 4),
  source: Int32Array.of(0, 4, 2, 5),
  slot: Int32Array.of(2, 0, 3, 1),
};
const scores = Float32Array.of(0.25, 0.25, 0.5, 0, 0.25, 0.75);

it('adds loads, first choices and entropies, twice when asked twice', () => {
  const sums = { load: new Float64Array(3), tokens: 0, topWeight: 0, entropy: 0 };
  addRoutingSumsInto(sums, pairs, { scores, renormalise: false });
  expect([...sums.load]).toEqual([1, 1, 2]);
  expect(sums.tokens).toBe(2);
  expect(sums.topWeight).toBeCloseTo(0.5 + 0.75, 6);
  const first = -(0.5 * Math.log(0.25) + 0.5 * Math.log(0.5)) / Math.log(3);
  const second = -(0.25 * Math.log(0.25) + 0.75 * Math.log(0.75)) / Math.log(3);
  expect(sums.entropy).toBeCloseTo(first + second, 6);
  addRoutingSumsInto(sums, pairs, { scores, renormalise: true });
  expect([...sums.load]).toEqual([2, 2, 4]);
  expect(sums.topWeight).toBeCloseTo(1.25 + 0.5 / 0.75 + 0.75, 6);
});

it('leaves out tokens without a pair', () => {
  const sums = { load: new Float64Array(3), tokens: 0, topWeight: 0, entropy: 0 };
  const dropped = { tokenOffsets: Int32Array.of(0, 0, 1), source: Int32Array.of(5), slot: Int32Array.of(0) };
  addRoutingSumsInto(sums, dropped, { scores, renormalise: true });
  expect(sums).toMatchObject({ tokens: 1, topWeight: 1 });
});
