import { describe, expect, it } from 'vitest';

import { resampleBitsPerByte, standardErrorOf, standardErrorOfDifference } from './bootstrap.ts';

const documents = Array.from({ length: 40 }, (_, index) => ({ bits: 100 + ((index * 37) % 40), bytes: 50 }));

describe('standardErrorOf', () => {
  it('is the deviation over the root of the number, for documents of one size', () => {
    const values = documents.map(({ bits, bytes }) => bits / bytes);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    const expected = Math.sqrt(variance / values.length);
    const error = standardErrorOf(documents, { resamples: 4000 }) ?? NaN;
    expect(Math.abs(error / expected - 1)).toBeLessThan(0.08);
  });
  it('is the same for the same seed, another for another, and unknown for a single document', () => {
    expect(standardErrorOf(documents, { seed: 3 })).toBe(standardErrorOf(documents, { seed: 3 }));
    expect(standardErrorOf(documents, { seed: 3 })).not.toBe(standardErrorOf(documents, { seed: 4 }));
    expect(standardErrorOf(documents.slice(0, 1))).toBe(null);
  });
  it('weighs documents by their bytes', () => {
    const mixed = [
      { bits: 10, bytes: 10 },
      { bits: 3000, bytes: 1000 },
    ];
    const drawn = [...resampleBitsPerByte(mixed, { resamples: 200 })];
    expect([...new Set(drawn)].toSorted()).toEqual([1, 3010 / 1010, 3]);
  });
});

describe('standardErrorOfDifference', () => {
  it('knows that the same documents are hard for both', () => {
    const better = documents.map(({ bits, bytes }) => ({ bits: bits - 5, bytes }));
    expect(standardErrorOfDifference(documents, better)).toBeLessThan(1e-12);
    expect(standardErrorOf(documents)).toBeGreaterThan(0.01);
  });
  it('refuses other documents', () => {
    expect(() => standardErrorOfDifference(documents, documents.slice(1))).toThrow(
      'difference: both sides must have the same documents, got 40 and 39 (measure them on one text)',
    );
  });
});
