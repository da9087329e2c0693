import { createRng } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { argmaxOf, filteredTokens, finiteArgmaxOf, logProbability, sampleToken } from './sample.kernel.ts';

const all = { temperature: 1, topK: 0, topP: 1, minP: 0 };
const rows = fc
  .array(fc.double({ min: -8, max: 8, noNaN: true }), { minLength: 1, maxLength: 40 })
  .map((values) => Float32Array.from(values));

interface Cut {
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
}

/** The definition, slowly: sort everything, cut at k, walk until p is reached, then drop what is below min-p. */
function allowedByDefinition(logits: Float32Array, { topK, topP, minP }: Cut): number[] {
  const weights = [...logits].map((logit) => Math.exp(logit));
  const sorted = [...logits.keys()].toSorted((a, b) => logits[b]! - logits[a]! || a - b);
  const best = topK > 0 ? sorted.slice(0, topK) : sorted;
  const total = best.reduce((sum, id) => sum + weights[id]!, 0);
  const allowed: number[] = [];
  let reached = 0;
  for (const id of best) {
    if (reached >= topP * total * (1 - 1e-12) && allowed.length > 0) break;
    allowed.push(id);
    reached += weights[id]!;
  }
  return allowed.filter((id) => weights[id]! >= minP * weights[sorted[0]!]!);
}

describe('argmaxOf', () => {
  it('takes the lowest index of equal largest values', () => {
    expect(argmaxOf(Float32Array.of(1, 3, 3, 2))).toBe(1);
    expect(argmaxOf(Float32Array.of(-Infinity, -1))).toBe(1);
  });
});

describe('finiteArgmaxOf', () => {
  it('is argmaxOf where every value may be chosen from', () => {
    fc.assert(fc.property(rows, (logits) => finiteArgmaxOf(logits) === argmaxOf(logits)));
    expect(finiteArgmaxOf(Float32Array.of(-Infinity, -1, -1))).toBe(1);
  });

  it.each([
    [[Number.NaN, 1]],
    [[1, Number.NaN]],
    [[1, Infinity]],
    [[Infinity, Number.NaN]],
    [[-Infinity, -Infinity]],
    [[]],
  ])('refuses %j', (values) => {
    expect(finiteArgmaxOf(Float32Array.from(values))).toBe(-1);
  });
});

describe('logProbability', () => {
  it('is the logarithm of a distribution that sums to one', () => {
    fc.assert(
      fc.property(rows, (logits) => {
        let sum = 0;
        for (const id of logits.keys()) sum += Math.exp(logProbability(logits, id));
        expect(sum).toBeCloseTo(1, 9);
      }),
    );
  });

  it('does not overflow on large logits', () => {
    expect(logProbability(Float32Array.of(1e4, 1e4), 0)).toBeCloseTo(-Math.LN2, 9);
  });
});

describe('filteredTokens', () => {
  it('allows exactly the tokens the definition of top-k, top-p and min-p allows', () => {
    const k = fc.integer({ min: 0, max: 45 });
    const p = fc.constantFrom(0.05, 0.3, 0.5, 0.9, 0.99, 1);
    const m = fc.constantFrom(0, 0.01, 0.2, 0.7);
    fc.assert(
      fc.property(rows, k, p, m, (logits, topK, topP, minP) => {
        const { ids } = filteredTokens(logits, { temperature: 1, topK, topP, minP });
        const expected = allowedByDefinition(logits, { topK, topP, minP });
        expect(ids.toSorted()).toEqual(Int32Array.from(expected).toSorted());
      }),
    );
  });

  it('tells apart logits whose probabilities round to the same number', () => {
    const logits = Float32Array.of(0, 5.551115784870273e-17);
    expect([...filteredTokens(logits, { ...all, topP: 0.05 }).ids]).toEqual([1]);
    expect([...filteredTokens(logits, { ...all, topK: 1 }).ids]).toEqual([1]);
  });

  it('keeps the most probable token however small p is', () => {
    expect([...filteredTokens(Float32Array.of(0, 5, 1), { ...all, topP: 1e-9 }).ids]).toEqual([1]);
  });

  it('keeps all of the most probable tokens with min-p 1, and everything with 0', () => {
    const logits = Float32Array.of(3, 1, 3, -40);
    expect([...filteredTokens(logits, { ...all, minP: 1 }).ids]).toEqual([0, 2]);
    expect([...filteredTokens(logits, all).ids]).toEqual([0, 1, 2, 3]);
  });

  it('applies min-p after the temperature', () => {
    const logits = Float32Array.of(Math.log(8), Math.log(1));
    expect([...filteredTokens(logits, { ...all, minP: 0.2 }).ids]).toEqual([0]);
    expect([...filteredTokens(logits, { ...all, minP: 0.2, temperature: 2 }).ids]).toEqual([0, 1]);
  });

  it('takes a k beyond the vocabulary for all tokens, and never gives weight to minus infinity', () => {
    const logits = Float32Array.of(0, -Infinity, 1);
    const { ids, weights } = filteredTokens(logits, { ...all, topK: 99 });
    expect([...ids]).toEqual([0, 1, 2]);
    expect(weights[1]).toBe(0);
    expect([...filteredTokens(logits, { ...all, topK: 99, minP: 1e-9 }).ids]).toEqual([0, 2]);
  });

  it('sharpens with a low and flattens with a high temperature', () => {
    const share = (temperature: number): number => {
      const { weights } = filteredTokens(Float32Array.of(2, 0), { ...all, temperature });
      return weights[0]! / (weights[0]! + weights[1]!);
    };
    expect(share(0.1)).toBeGreaterThan(0.999);
    expect(share(1)).toBeCloseTo(1 / (1 + Math.exp(-2)), 9);
    expect(share(100)).toBeCloseTo(0.505, 3);
  });
});

describe('sampleToken', () => {
  it('draws tokens as often as their probability says', () => {
    const logits = Float32Array.of(0, Math.log(2), Math.log(5));
    const rng = createRng(3);
    const counts = [0, 0, 0];
    for (let draw = 0; draw < 8000; draw += 1) counts[sampleToken(logits, all, rng.uniform())]! += 1;
    expect(counts.map((count) => count / 8000)).toEqual([
      expect.closeTo(1 / 8, 1),
      expect.closeTo(2 / 8, 1),
      expect.closeTo(5 / 8, 1),
    ]);
    expect(Math.abs(counts[2]! / 8000 - 5 / 8)).toBeLessThan(0.02);
  });

  it('reaches the first and the last allowed token', () => {
    const logits = Float32Array.of(1, 1, 1, 1);
    expect(sampleToken(logits, all, 0)).toBe(0);
    expect(sampleToken(logits, all, 1 - 2 ** -53)).toBe(3);
    expect(sampleToken(logits, { ...all, topK: 2 }, 1 - 2 ** -53)).toBe(1);
  });

  it('never leaves the allowed set', () => {
    fc.assert(
      fc.property(rows, fc.double({ min: 0, max: 0.999999, noNaN: true }), (logits, uniform) => {
        const filter = { temperature: 0.7, topK: 3, topP: 0.8, minP: 0.1 };
        expect([...filteredTokens(logits, filter).ids]).toContain(sampleToken(logits, filter, uniform));
      }),
    );
  });
});
