import { beforeAll, describe, expect, it } from 'vitest';

import type { Tensor } from '@tensorflow/tfjs';
import { tensor3d } from '@tensorflow/tfjs';

import { attention } from './oracles.ts';
import {
  createNumbers,
  differences,
  expectClose,
  indices,
  matrix,
  run,
  startNative,
} from './start-native.ts';

beforeAll(startNative);

interface Sizes {
  readonly batch: number;
  readonly S: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly C: number;
}

/** Causal attention of every sequence of a batch. */
function causal(tensors: readonly Float64Array[], sizes: Sizes, scale: number): Float64Array {
  const { batch, S, heads, kvHeads, C } = sizes;
  const [q, k, v] = tensors as [Float64Array, Float64Array, Float64Array];
  const part = (x: Float64Array, b: number): Float64Array =>
    x.subarray((b * x.length) / batch, ((b + 1) * x.length) / batch);
  const all = Array.from({ length: batch }, (_, b) => [
    ...attention(part(q, b), part(k, b), part(v, b), { heads, kvHeads, C, scale }, (i, j) => j <= i),
  ]);
  expect(all[0]!.length).toBe(S * heads * C);
  return Float64Array.from(all.flat());
}

const sizes: Sizes[] = [
  { batch: 1, S: 1, heads: 1, kvHeads: 1, C: 1 },
  { batch: 2, S: 5, heads: 2, kvHeads: 1, C: 3 },
  { batch: 1, S: 13, heads: 4, kvHeads: 2, C: 6 },
  { batch: 3, S: 7, heads: 3, kvHeads: 3, C: 5 },
  { batch: 1, S: 131, heads: 2, kvHeads: 1, C: 17 },
];

describe('MoebiusAttention', () => {
  it.each(sizes)(
    'matches the loop oracle and its differences: $batch × $S, $heads/$kvHeads heads of $C',
    (s) => {
      const { batch, S, heads, kvHeads, C } = s;
      const [T, Z, Y, scale] = [batch * S, heads * C, kvHeads * C, 0.7];
      const numbers = createNumbers(S + C);
      const tensors = [numbers(T * Z, 2), numbers(T * Y, 2), numbers(T * Y)];
      const dy = numbers(T * Z);
      const attributes = { batch, heads, kv_heads: kvHeads, scale };
      const inputs = (): Tensor[] => [
        matrix(tensors[0]!, T, Z),
        matrix(tensors[1]!, T, Y),
        matrix(tensors[2]!, T, Y),
      ];
      const [y, lse] = run('MoebiusAttention', inputs(), attributes);
      expectClose(y!, causal(tensors, s, scale));
      if (S > 50) return;
      const saved = [matrix(y!, T, Z), matrix(lse!, T, heads), matrix(dy, T, Z)];
      const got = run('MoebiusAttentionGrad', [...inputs(), ...saved], attributes);
      const want = differences((changed) => causal(changed, s, scale), tensors, dy);
      for (const [i, gradient] of want.entries()) expectClose(got[i]!, gradient);
    },
  );

  it('has a gradient over several query blocks that agrees with one sequence cut short', () => {
    // dy is 0 after row 40, so rows after it get no gradient and rows before get that of the short sequence.
    const [S, C, short] = [300, 8, 40];
    const numbers = createNumbers(21);
    const tensors = [numbers(S * C), numbers(S * C), numbers(S * C)];
    const dy = numbers(S * C).map((value, i) => (i < short * C ? value : 0));
    const attributes = { batch: 1, heads: 1, kv_heads: 1, scale: 1 };
    const gradients = (rows: number): Float32Array[] => {
      const inputs = (): Tensor[] => tensors.map((x) => matrix(x.subarray(0, rows * C), rows, C));
      const [y, lse] = run('MoebiusAttention', inputs(), attributes);
      const saved = [matrix(y!, rows, C), matrix(lse!, rows, 1), matrix(dy.subarray(0, rows * C), rows, C)];
      return run('MoebiusAttentionGrad', [...inputs(), ...saved], attributes);
    };
    const [long, cut] = [gradients(S), gradients(short)];
    for (const [i, gradient] of long.entries()) {
      expectClose(gradient.subarray(0, short * C), cut[i]!, 1e-5);
      expect(gradient.subarray(short * C).every((value) => value === 0)).toBe(true);
    }
    expect(gradients(S)).toEqual(long);
  });

  it('refuses heads that do not divide', () => {
    const inputs = (): Tensor[] => [
      matrix([1, 2, 3], 1, 3),
      matrix([1, 2, 3], 1, 3),
      matrix([1, 2, 3], 1, 3),
    ];
    const attributes = { batch: 1, heads: 2, kv_heads: 1, scale: 1 };
    expect(() => run('MoebiusAttention', inputs(), attributes)).toThrow(
      /width must be divisible by heads 2, got 3/,
    );
    expect(() => run('MoebiusAttention', inputs(), { ...attributes, heads: 3, kv_heads: 2 })).toThrow(
      /heads: must be divisible by kv_heads 2, got 3/,
    );
    expect(() =>
      run('MoebiusAttention', inputs(), { ...attributes, heads: 3, kv_heads: 3, batch: 2 }),
    ).toThrow(/batch 2/);
  });
});

describe('MoebiusCachedAttention', () => {
  const [heads, kvHeads, C, P] = [4, 2, 7, 40];
  const [Z, Y] = [heads * C, kvHeads * C];
  const attributes = { heads, kv_heads: kvHeads, scale: 0.5 };
  const numbers = createNumbers(33);
  const [k, v] = [numbers(2 * P * Y), numbers(2 * P * Y)];

  interface Call {
    readonly q: Float64Array;
    readonly n: number;
    readonly positions: number[];
    readonly lengths: number[];
    readonly mask?: number[];
  }

  const inputsOf = ({ q, n, positions, lengths, mask }: Call): Tensor[] => [
    matrix(q, 2 * n, Z),
    tensor3d(Float32Array.from(k), [2, P, Y]),
    tensor3d(Float32Array.from(v), [2, P, Y]),
    indices(positions),
    indices(lengths),
    mask === undefined ? matrix([], 0, 0) : matrix(mask, n, n),
  ];

  function oracle({ q, n, positions, lengths, mask }: Call): Float64Array {
    const sequence = (b: number): number[] => {
      const start = lengths[b]! - n;
      const sees = (i: number, j: number): boolean =>
        mask !== undefined && j >= start ? mask[i * n + j - start] !== 0 : j <= positions[b * n + i]!;
      const rows = (x: Float64Array): Float64Array => x.subarray(b * P * Y, (b * P + lengths[b]!) * Y);
      return [
        ...attention(
          q.subarray(b * n * Z, (b + 1) * n * Z),
          rows(k),
          rows(v),
          { heads, kvHeads, C, scale: 0.5 },
          sees,
        ),
      ];
    };
    return Float64Array.from([...sequence(0), ...sequence(1)]);
  }

  it.each([1, 2, 3, 5, 17])('attends %i rows to two sequences of different length', (n) => {
    const lengths = [n + 3, 40];
    const positions = lengths.flatMap((length) => Array.from({ length: n }, (_, i) => length - n + i));
    const call = { q: numbers(2 * n * Z), n, positions, lengths };
    expectClose(run('MoebiusCachedAttention', inputsOf(call), attributes)[0]!, oracle(call));
  });

  it.each([3, 6])('masks a tree of %i drafted rows', (n) => {
    const lengths = [n, 21];
    const mask = Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 || i % n === 0 ? 1 : 0));
    const positions = lengths.flatMap((length) => Array.from({ length: n }, () => length - n));
    const call = { q: numbers(2 * n * Z), n, positions, lengths, mask };
    expectClose(run('MoebiusCachedAttention', inputsOf(call), attributes)[0]!, oracle(call));
  });

  it.each([
    ['a length beyond the cache', { lengths: [41, 40] }, /lengths\[0\]: must be in \[1, 41\), got 41/],
    ['an empty sequence', { lengths: [0, 40] }, /lengths\[0\]/],
    ['a negative position', { positions: [-1, 0] }, /positions\[0\]/],
    ['a mask that hides everything', { lengths: [1, 1], mask: [0] }, /tail_mask/],
  ])('refuses %s', (_, wrong, message) => {
    const call = { q: numbers(2 * Z), n: 1, positions: [0, 0], lengths: [1, 40], ...wrong };
    expect(() => run('MoebiusCachedAttention', inputsOf(call), attributes)).toThrow(message);
  });
});
