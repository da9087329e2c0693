import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { digestWords, normalQuantile, philoxInto, portableLog } from './philox.kernel.ts';

const PRIME = 4_294_967_296n;

/** Philox4x32-10 in big integers, straight from the paper's equations. */
function philoxOracle(counter: readonly bigint[], key: readonly bigint[]): bigint[] {
  let [c0 = 0n, c1 = 0n, c2 = 0n, c3 = 0n] = counter;
  let [k0 = 0n, k1 = 0n] = key;
  for (let round = 0; round < 10; round += 1) {
    const product0 = 0xd2511f53n * c0;
    const product1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [
      (product1 / PRIME) ^ c1 ^ k0,
      product1 % PRIME,
      (product0 / PRIME) ^ c3 ^ k1,
      product0 % PRIME,
    ];
    k0 = (k0 + 0x9e3779b9n) % PRIME;
    k1 = (k1 + 0xbb67ae85n) % PRIME;
  }
  return [c0, c1, c2, c3];
}

function philox(counter: readonly number[], key: readonly number[]): number[] {
  const out = new Uint32Array(4);
  philoxInto(out, Uint32Array.from(counter), Uint32Array.from(key));
  return [...out];
}

/** The lines `philox4x32 10` of the Random123 distribution's kat_vectors: counter, key, answer. */
const PUBLISHED: readonly (readonly [string, string, string])[] = [
  ['00000000 00000000 00000000 00000000', '00000000 00000000', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
  ['ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'],
  ['243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'],
];

const hex = (text: string): number[] => text.split(' ').map((word) => Number.parseInt(word, 16));
const word = fc.integer({ min: 0, max: 0xffffffff });
const words = (length: number): fc.Arbitrary<number[]> =>
  fc.array(word, { minLength: length, maxLength: length });

describe('philoxInto', () => {
  it.each(PUBLISHED)('gives the published answer for counter %s and key %s', (counter, key, answer) => {
    expect(philox(hex(counter), hex(key))).toEqual(hex(answer));
  });

  it('equals the paper in big integers', () => {
    fc.assert(
      fc.property(words(4), words(2), (counter, key) => {
        const expected = philoxOracle(counter.map(BigInt), key.map(BigInt)).map(Number);
        expect(philox(counter, key)).toEqual(expected);
      }),
    );
  });

  it('may write over its own counter', () => {
    const counter = Uint32Array.from([1, 2, 3, 4]);
    const expected = philox([1, 2, 3, 4], [5, 6]);
    philoxInto(counter, counter, Uint32Array.from([5, 6]));
    expect([...counter]).toEqual(expected);
  });
});

describe('digestWords', () => {
  it('tells apart words that differ only by trailing zeros or by length', () => {
    const digests = [
      [],
      [0],
      [0, 0],
      [0, 0, 0],
      [0, 0, 0, 0],
      [1],
      [0, 1],
      [1, 0],
      [0x80000000],
      [0x80000000, 1],
    ];
    const seen = new Set(digests.map((list) => digestWords(Uint32Array.from(list)).join()));
    expect(seen.size).toBe(digests.length);
  });

  it('changes about half of its bits when one bit of the input changes', () => {
    const base = digestWords(Uint32Array.from([7, 8, 9]));
    let flipped = 0;
    for (let bit = 0; bit < 96; bit += 1) {
      const input = Uint32Array.from([7, 8, 9]);
      input[bit >>> 5] = (input[bit >>> 5] ?? 0) ^ (1 << (bit & 31));
      const digest = digestWords(input);
      for (const [lane, value] of digest.entries()) {
        flipped += ((value ^ (base[lane] ?? 0)) >>> 0).toString(2).replaceAll('0', '').length;
      }
    }
    expect(flipped / (96 * 128)).toBeGreaterThan(0.47);
    expect(flipped / (96 * 128)).toBeLessThan(0.53);
  });
});

describe('portableLog', () => {
  it('is within a few units in the last place of the true logarithm', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-17, max: 1, noNaN: true }), (x) => {
        expect(Math.abs(portableLog(x) - Math.log(x))).toBeLessThanOrEqual(
          1e-15 * Math.max(1, Math.abs(Math.log(x))),
        );
      }),
      { numRuns: 3000 },
    );
  });

  it('is as exact just above and below each power of two', () => {
    for (let exponent = -54; exponent < 0; exponent += 1) {
      for (const x of [
        2 ** exponent * (1 - 2 ** -30),
        2 ** exponent,
        2 ** exponent * (1 + 2 ** -30),
        2 ** exponent * 1.999,
      ]) {
        if (x <= 1) expect(Math.abs(portableLog(x) / Math.log(x) - 1)).toBeLessThan(1e-15);
      }
    }
  });
});

describe('normalQuantile', () => {
  /** The standard normal distribution function by trapezoids of the density: slow, obvious, good to 1e-10. */
  function distribution(z: number): number {
    const steps = 20_000;
    const width = z / steps;
    let sum = 0;
    for (let step = 0; step <= steps; step += 1) {
      const x = step * width;
      sum += (step === 0 || step === steps ? 0.5 : 1) * Math.exp((-x * x) / 2);
    }
    return 0.5 + (sum * width) / Math.sqrt(2 * Math.PI);
  }

  it.each([1e-9, 1e-6, 0.001, 0.0749, 0.0751, 0.3, 0.5, 0.7, 0.9249, 0.9251, 0.999, 1 - 1e-6])(
    'inverts the distribution function at %d',
    (probability) => {
      expect(Math.abs(distribution(normalQuantile(probability)) - probability)).toBeLessThan(1e-9);
    },
  );

  it('gives the textbook quantiles', () => {
    expect(normalQuantile(0.975)).toBeCloseTo(1.959963984540054, 13);
    expect(normalQuantile(0.5)).toBe(0);
    expect(normalQuantile(1e-300)).toBeCloseTo(-37.0471, 3);
  });

  it('is odd around one half and increasing', () => {
    const grid = Array.from({ length: 2000 }, (_, at) => (at + 0.5) / 2000);
    const values = grid.map(normalQuantile);
    for (const [at, value] of values.entries()) {
      expect(value).toBeCloseTo(-(values[values.length - 1 - at] ?? NaN), 10);
      if (at > 0) expect(value).toBeGreaterThan(values[at - 1] ?? Infinity);
    }
  });
});
