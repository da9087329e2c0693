import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { isMoebiusError } from './errors.ts';
import { philoxInto } from './philox.kernel.ts';
import { createRng, restoreRng, type Rng, type RngState } from './rng.ts';

function draw(rng: Rng, count: number): number[] {
  return Array.from({ length: count }, () => rng.uint32());
}

describe('createRng', () => {
  it('gives these numbers, on every machine and for ever', () => {
    const rng = createRng(42);
    expect(draw(rng, 6)).toMatchInlineSnapshot(`
      [
        2420084355,
        298294102,
        1084334284,
        1114788679,
        2444112928,
        1363632032,
      ]
    `);
    expect(createRng('moebius').uniform()).toMatchInlineSnapshot(`0.6988654268107497`);
    expect(createRng([1, 2, 3]).normal()).toMatchInlineSnapshot(`0.29968038697721616`);
    expect(createRng(42).fork('init').uint32()).toMatchInlineSnapshot(`1003067575`);
  });

  it('is Philox at counter (position / 4, stream) under its key', () => {
    const rng = createRng(7);
    const { key, stream } = rng.state();
    const expected: number[] = [];
    const block = new Uint32Array(4);
    for (let index = 0; index < 3; index += 1) {
      philoxInto(block, Uint32Array.from([index, 0, ...stream]), Uint32Array.from(key));
      expected.push(...block);
    }
    expect(draw(rng, 12)).toEqual(expected);
  });

  it('gives unrelated streams to different seeds and kinds of seed', () => {
    const seeds = [0, 1, -1, 0.5, 2 ** 40, '', '0', '1', 'a', 'b', [], [0], [1], [0, 0]];
    expect(new Set(seeds.map((seed) => draw(createRng(seed), 2).join())).size).toBe(seeds.length);
    expect(draw(createRng(-0), 3)).toEqual(draw(createRng(0), 3));
  });

  it.each([NaN, Infinity, [1, NaN]])('refuses the seed %s', (seed) => {
    expect(() => createRng(seed)).toThrow(/rng seed: must be finite/);
  });
});

describe('state', () => {
  it('continues exactly where it was saved, through JSON, at any position', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat({ max: 40 }), (seed, drawn) => {
        const rng = createRng(seed);
        draw(rng, drawn);
        const copy = restoreRng(JSON.parse(JSON.stringify(rng.state())) as RngState);
        expect(draw(copy, 9)).toEqual(draw(rng, 9));
      }),
    );
  });

  it('jumps to positions beyond 2^34, where the counter carries', () => {
    const state = createRng(3).state();
    const position = 4 * 2 ** 32 - 2;
    const words = draw(restoreRng({ ...state, position }), 4);
    const block = new Uint32Array(4);
    philoxInto(block, Uint32Array.from([0xffffffff, 0, ...state.stream]), Uint32Array.from(state.key));
    const before = [block[2], block[3]];
    philoxInto(block, Uint32Array.from([0, 1, ...state.stream]), Uint32Array.from(state.key));
    expect(words).toEqual([...before, block[0], block[1]]);
  });

  it.each([
    undefined,
    {},
    { algorithm: 'other', key: [1, 2], stream: [1, 2], position: 0 },
    { algorithm: 'philox4x32-10', key: [1], stream: [1, 2], position: 0 },
    { algorithm: 'philox4x32-10', key: [1, -2], stream: [1, 2], position: 0 },
    { algorithm: 'philox4x32-10', key: [1, 2 ** 32], stream: [1, 2], position: 0 },
    { algorithm: 'philox4x32-10', key: [1, 2], stream: [1, 2], position: -1 },
    { algorithm: 'philox4x32-10', key: [1, 2], stream: [1, 2], position: 0.5 },
  ])('refuses the state %j', (state) => {
    expect(() => restoreRng(state as unknown as RngState)).toThrow(/rng state: must be/);
  });
});

describe('fork', () => {
  it('does not advance the parent and does not depend on its position', () => {
    const parent = createRng(5);
    const early = draw(parent.fork('a'), 5);
    draw(parent, 17);
    const before = parent.state();
    expect(draw(parent.fork('a'), 5)).toEqual(early);
    expect(parent.state()).toEqual(before);
  });

  it('gives every label, and every chain of labels, its own stream', () => {
    const root = createRng(5);
    const forks = [
      root,
      root.fork(0),
      root.fork('0'),
      root.fork(1),
      root.fork('a'),
      root.fork('a').fork('b'),
      root.fork('b').fork('a'),
      root.fork('ab'),
      createRng(6).fork('a'),
    ];
    expect(new Set(forks.map((rng) => draw(rng, 2).join())).size).toBe(forks.length);
  });

  it('gives streams without correlation', () => {
    const root = createRng(11);
    const first = root.fork(0);
    const second = root.fork(1);
    const count = 20_000;
    let sum = 0;
    for (let at = 0; at < count; at += 1) sum += first.normal() * second.normal();
    expect(Math.abs(sum / Math.sqrt(count))).toBeLessThan(4);
  });
});

describe('distributions', () => {
  const count = 40_000;

  it('draws uniform values in [0, 1) whose cells fill evenly (chi-square, 64 cells)', () => {
    const rng = createRng('uniform');
    const cells = new Float64Array(64);
    for (let at = 0; at < count; at += 1) {
      const value = rng.uniform();
      expect(value >= 0 && value < 1).toBe(true);
      const cell = Math.floor(value * 64);
      cells[cell] = (cells[cell] ?? 0) + 1;
    }
    const expected = count / 64;
    const chiSquare = cells.reduce((sum, seen) => sum + (seen - expected) ** 2 / expected, 0);
    expect(chiSquare).toBeGreaterThan(30);
    expect(chiSquare).toBeLessThan(110);
  });

  it('draws normal values with the moments of a normal', () => {
    const rng = createRng('normal');
    const powers = [0, 0, 0, 0];
    for (let at = 0; at < count; at += 1) {
      const z = rng.normal();
      for (const [index, sum] of powers.entries()) powers[index] = sum + z ** (index + 1) / count;
    }
    const [mean = NaN, square = NaN, cube = NaN, fourth = NaN] = powers;
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(square - 1)).toBeLessThan(0.03);
    expect(Math.abs(cube)).toBeLessThan(0.08);
    expect(Math.abs(fourth - 3)).toBeLessThan(0.2);
  });

  it('draws integers below any bound, evenly, also where 2^32 is no multiple of it', () => {
    const rng = createRng('integer');
    const seen = new Float64Array(6);
    for (let at = 0; at < count; at += 1) {
      const value = rng.integer(6);
      seen[value] = (seen[value] ?? 0) + 1;
    }
    for (const times of seen) expect(Math.abs(times - count / 6)).toBeLessThan(400);
    // A modulo without rejection would put 2/3 of the draws below 2^31 here.
    const bound = 3 * 2 ** 30;
    let low = 0;
    for (let at = 0; at < count; at += 1) low += rng.integer(bound) < 2 ** 30 ? 1 : 0;
    expect(Math.abs(low / count - 1 / 3)).toBeLessThan(0.02);
  });

  it('keeps integers in range for every bound up to 2^53 - 1', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), fc.integer(), (below, seed) => {
        const value = createRng(seed).integer(below);
        expect(Number.isSafeInteger(value) && value >= 0 && value < below).toBe(true);
      }),
    );
  });

  it.each([0, -1, 1.5, NaN, 2 ** 53])('refuses the bound %s', (below) => {
    expect(() => createRng(1).integer(below)).toThrow(/rng.integer: below must be/);
  });
});

describe('shuffle', () => {
  it('permutes', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -9, max: 9 })), fc.integer(), (list, seed) => {
        const values = Int32Array.from(list);
        createRng(seed).shuffle(values);
        expect(values.toSorted()).toEqual(Int32Array.from(list).toSorted());
      }),
    );
  });

  it('reaches all 24 orders of four about equally often', () => {
    const rng = createRng('shuffle');
    const seen = new Map<string, number>();
    for (let at = 0; at < 24_000; at += 1) {
      const values = Int32Array.from([0, 1, 2, 3]);
      rng.shuffle(values);
      seen.set(values.join(), (seen.get(values.join()) ?? 0) + 1);
    }
    expect(seen.size).toBe(24);
    for (const times of seen.values()) expect(Math.abs(times - 1000)).toBeLessThan(160);
  });
});

describe('bulk fills', () => {
  it('fill normal values exactly as single draws do', () => {
    const bulk = new Float32Array(1001);
    const rng = createRng(9);
    rng.fillNormal(bulk, { mean: 3, standardDeviation: 0.02 });
    const single = createRng(9);
    expect(bulk).toEqual(Float32Array.from(bulk, () => 3 + 0.02 * single.normal()));
    expect(rng.state()).toEqual(single.state());
  });

  it('fill uniform values from the top 24 bits, never reaching the upper bound', () => {
    const bulk = new Float32Array(1001);
    createRng(9).fillUniform(bulk);
    const single = createRng(9);
    expect(bulk).toEqual(Float32Array.from(bulk, () => (single.uint32() >>> 8) / 2 ** 24));
    createRng(10).fillUniform(bulk, { low: 1, high: 1 + 2 ** -22 });
    expect(bulk.every((value) => value >= 1 && value < 1 + 2 ** -22)).toBe(true);
  });
});

it('reports errors with codes', () => {
  const caught = ((): unknown => {
    try {
      return createRng(1).integer(0);
    } catch (error) {
      return error;
    }
  })();
  expect(isMoebiusError(caught, 'configuration')).toBe(true);
});
