import { beforeAll, describe, expect, it } from 'vitest';

import type { Tensor } from '@tensorflow/tfjs';
import { tensor3d } from '@tensorflow/tfjs';

import { nativeKernel } from '../../src/native/kernels.ts';
import { attention, experts, linear, planOf, rmsNorm, rope } from './oracles.ts';
import { createNumbers, expectClose, indices, matrix, run, startNative, vector } from './start-native.ts';

beforeAll(startNative);

const epsilon = 1e-6;

describe('MoebiusNormLinear', () => {
  it.each([1, 8, 30])('normalises %i rows once for several weights', (T) => {
    const numbers = createNumbers(T);
    const [x, norm, a, b] = [numbers(T * 33), numbers(33), numbers(70 * 33), numbers(5 * 33)];
    const outputs = run(
      'MoebiusNormLinear',
      [matrix(x, T, 33), vector(norm), matrix(a, 70, 33), matrix(b, 5, 33)],
      {
        epsilon,
      },
    );
    const normed = rmsNorm(x, norm, epsilon);
    expectClose(outputs[0]!, linear(normed, a, T, 33));
    expectClose(outputs[1]!, linear(normed, b, T, 33));
  });

  it('multiplies x itself when the norm is empty', () => {
    const [y] = run('MoebiusNormLinear', [matrix([1, 2], 1, 2), vector([]), matrix([3, 4], 1, 2)], {
      epsilon,
    });
    expect([...y!]).toEqual([11]);
  });
});

describe('MoebiusCachedBlock', () => {
  const [D, heads, kvHeads, C, P, half] = [19, 4, 2, 6, 12, 3];
  const [Z, Y] = [heads * C, kvHeads * C];
  const numbers = createNumbers(17);
  const weights = {
    norm: numbers(D),
    q: numbers(Z * D),
    k: numbers(Y * D),
    v: numbers(Y * D),
    o: numbers(D * Z),
  };
  const angles = numbers(40 * half, 3);

  interface Call {
    readonly x: Float64Array;
    readonly n: number;
    readonly lengths: number[];
    readonly queryNorm: Float64Array;
    readonly keyNorm: Float64Array;
    readonly cache: [Float64Array, Float64Array];
  }

  /** Loops over sequences; also writes the new rows into `cache`. */
  function oracle({ x, n, lengths, queryNorm, keyNorm, cache }: Call, positions: number[]): Float64Array {
    const T = x.length / D;
    const hidden = rmsNorm(x, weights.norm, epsilon);
    const turn = (rows: Float64Array, norm: Float64Array, width: number): Float64Array =>
      rope(norm.length > 0 ? rmsNorm(rows, norm, epsilon) : rows, { Z: width, C, half }, angles, positions);
    const q = turn(linear(hidden, weights.q, T, D), queryNorm, Z);
    const k = turn(linear(hidden, weights.k, T, D), keyNorm, Y);
    const v = linear(hidden, weights.v, T, D);
    const attended = lengths.flatMap((length, b) => {
      const at = (b * P + length - n) * Y;
      cache[0].set(k.subarray(b * n * Y, (b + 1) * n * Y), at);
      cache[1].set(v.subarray(b * n * Y, (b + 1) * n * Y), at);
      const filled = (rows: Float64Array): Float64Array => rows.subarray(b * P * Y, (b * P + length) * Y);
      const sizes = { heads, kvHeads, C, scale: 0.4 };
      const queries = q.subarray(b * n * Z, (b + 1) * n * Z);
      return [
        ...attention(queries, filled(cache[0]), filled(cache[1]), sizes, (i, j) => j <= length - n + i),
      ];
    });
    const y = linear(Float64Array.from(attended), weights.o, T, Z);
    return y.map((value, i) => value + x[i]!);
  }

  it.each([
    ['no norms', 1, 0, 0],
    ['norms per head', 1, C, C],
    ['norms over the row, several new rows', 3, Z, Y],
    ['many new rows', 6, C, C],
  ] as const)('appends and attends: %s', (_, n, queryWidth, keyWidth) => {
    const call: Call = {
      x: numbers(2 * n * D),
      n,
      lengths: [n, 11],
      queryNorm: numbers(queryWidth),
      keyNorm: numbers(keyWidth),
      cache: [numbers(2 * P * Y), numbers(2 * P * Y)],
    };
    const positions = Array.from({ length: 2 * n }, (_, t) => 20 + t);
    const caches = call.cache.map((values) => tensor3d(Float32Array.from(values), [2, P, Y]));
    const inputs: Tensor[] = [
      matrix(call.x, 2 * n, D),
      vector(weights.norm),
      matrix(weights.q, Z, D),
      matrix(weights.k, Y, D),
      matrix(weights.v, Y, D),
      matrix(weights.o, D, Z),
      vector(call.queryNorm),
      vector(call.keyNorm),
      matrix(angles.map(Math.cos), 40, half),
      matrix(angles.map(Math.sin), 40, half),
      indices(positions),
      ...caches,
      indices(call.lengths),
    ];
    const attributes = { heads, kv_heads: kvHeads, scale: 0.4, epsilon };
    const [y] = nativeKernel('MoebiusCachedBlock')!(inputs, attributes);
    expectClose(y!.dataSync(), oracle(call, positions));
    for (const [i, cache] of caches.entries()) expectClose(cache.dataSync(), call.cache[i]!);
    for (const tensor of [...inputs, y!]) tensor.dispose();
  });

  it('refuses lengths that cannot hold the new rows, and a cache that is full', () => {
    const call = (lengths: number[]): unknown => {
      const inputs = [
        matrix(numbers(2 * D), 2, D),
        vector([]),
        ...[Z, Y, Y].map((rows) => matrix(numbers(rows * D), rows, D)),
        matrix(numbers(D * Z), D, Z),
        vector([]),
        vector([]),
        matrix([], 0, 0),
        matrix([], 0, 0),
        indices([0, 1]),
        ...[0, 1].map(() => tensor3d(new Float32Array(P * Y), [1, P, Y])),
        indices(lengths),
      ];
      return run('MoebiusCachedBlock', inputs, { heads, kv_heads: kvHeads, scale: 1, epsilon });
    };
    expect(() => call([1])).toThrow(/lengths\[0\]: must be in \[2, 13\), got 1/);
    expect(() => call([13])).toThrow(/lengths\[0\]/);
    expect(() => call([12])).not.toThrow();
  });
});

describe('MoebiusRoutedBlock', () => {
  const [E, D, F] = [5, 21, 34];

  it.each([
    [1, 2, 1],
    [7, 3, 0],
    [60, 2, 1],
  ])('routes %i rows to %i experts (weights normalised: %i)', (T, k, normalize) => {
    const numbers = createNumbers(T);
    const [x, norm, router] = [numbers(T * D), numbers(D), numbers(E * D, 2)];
    const matrices = [0, 1, 2].map(() => numbers(E * F * D, 0.5));
    const split = (all: Float64Array): Tensor[] =>
      Array.from({ length: E }, (_, e) => matrix(all.subarray(e * F * D, (e + 1) * F * D), F, D));
    const inputs = [matrix(x, T, D), vector(norm), matrix(router, E, D), ...matrices.flatMap(split)];
    const attributes = { top_k: k, normalize, scale: 1.5, epsilon, activation: 'silu' };
    const [y, ids, weights] = run('MoebiusRoutedBlock', inputs, attributes);

    const hidden = rmsNorm(x, norm, epsilon);
    const logits = linear(hidden, router, T, D);
    const chosen: number[][] = [];
    const weightOf: Map<number, number>[] = [];
    for (let t = 0; t < T; t++) {
      const p = [...logits.subarray(t * E, (t + 1) * E)].map(Math.exp);
      const sum = p.reduce((a, b) => a + b, 0);
      const best = p
        .map((_, e) => e)
        .sort((a, b) => p[b]! - p[a]! || a - b)
        .slice(0, k);
      const kept = normalize === 1 ? best.reduce((total, e) => total + p[e]!, 0) : sum;
      chosen.push(best);
      weightOf.push(new Map(best.map((e) => [e, (1.5 * p[e]!) / kept])));
    }
    expect([...ids!]).toEqual(chosen.flat());
    expectClose(
      weights!,
      chosen.flatMap((list, t) => list.map((e) => weightOf[t]!.get(e)!)),
    );
    const plan = planOf(chosen, E);
    const perPair = plan.token.map((t, n) => weightOf[t]!.get(plan.source[n]! % E)!);
    const want = experts(plan, { D, F, activation: 'silu' }, [
      hidden,
      Float64Array.from(perPair),
      ...matrices,
    ]);
    expectClose(
      y!,
      want.map((value, i) => value + x[i]!),
    );
  });

  it('sends ties to the lowest expert', () => {
    const zero = (): Tensor[] => Array.from({ length: 9 }, () => matrix([0], 1, 1));
    const attributes = { top_k: 2, normalize: 1, scale: 1, epsilon, activation: 'relu' };
    const [, ids, weights] = run(
      'MoebiusRoutedBlock',
      [matrix([1], 1, 1), vector([]), matrix([0, 0, 0], 3, 1), ...zero()],
      attributes,
    );
    expect([...ids!]).toEqual([0, 1]);
    expect([...weights!]).toEqual([0.5, 0.5]);
  });

  it('refuses scores that are not finite', () => {
    const zero = (): Tensor[] => Array.from({ length: 3 }, () => matrix([0], 1, 1));
    const attributes = { top_k: 1, normalize: 1, scale: 1, epsilon, activation: 'relu' };
    const inputs = [matrix([NaN], 1, 1), vector([]), matrix([1], 1, 1), ...zero()];
    expect(() => run('MoebiusRoutedBlock', inputs, attributes)).toThrow(
      /router: scores of row 0 must be finite/,
    );
  });
});
