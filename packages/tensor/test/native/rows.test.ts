import { beforeAll, describe, expect, it } from 'vitest';

import { planOf } from './oracles.ts';
import { createNumbers, expectClose, indices, matrix, run, startNative, vector } from './start-native.ts';

beforeAll(startNative);

const plan = planOf([[0, 2], [], [2], [1, 2, 4], [0]], 5);
const [T, N, D] = [5, plan.token.length, 19];
const numbers = createNumbers(2);

describe('rows by plan', () => {
  it('gathers rows', () => {
    const x = numbers(T * D);
    const [y] = run('MoebiusGatherRows', [matrix(x, T, D), indices(plan.token)]);
    expectClose(
      y!,
      plan.token.flatMap((t) => [...x.subarray(t * D, (t + 1) * D)]),
      1e-9,
    );
  });

  it.each([true, false])('combines pairs into tokens (weights: %s)', (weighted) => {
    const [y, w] = [numbers(N * D), numbers(N)];
    const want = new Float64Array(T * D);
    for (const [n, t] of plan.token.entries())
      for (let d = 0; d < D; d++) want[t * D + d]! += (weighted ? w[n]! : 1) * y[n * D + d]!;
    const inputs = [
      matrix(y, N, D),
      vector(weighted ? w : []),
      indices(plan.tokenOffsets),
      indices(plan.slot),
    ];
    expectClose(run('MoebiusCombineRows', inputs)[0]!, want, 1e-6);
  });

  it('puts score gradients where the scores were', () => {
    const dw = numbers(N);
    const want = new Float64Array(T * 5);
    for (const [n, place] of plan.source.entries()) want[place]! += dw[n]!;
    const [got] = run('MoebiusScatterScores', [vector(dw), indices(plan.source)], { tokens: T, experts: 5 });
    expectClose(got!, want, 1e-9);
  });

  it('sums embedding gradients by id, zeros elsewhere, the same bytes twice', () => {
    const ids = Array.from({ length: 200 }, (_, t) => (t * t) % 37);
    const dy = numbers(200 * D);
    const want = new Float64Array(41 * D);
    for (const [t, id] of ids.entries()) for (let d = 0; d < D; d++) want[id * D + d]! += dy[t * D + d]!;
    const gradient = (): Float32Array => {
      const [table] = run('MoebiusEmbeddingGrad', [matrix(dy, 200, D), indices(ids)], { vocabulary: 41 });
      return table!;
    };
    expectClose(gradient(), want, 1e-5);
    expect(gradient()).toEqual(gradient());
  });

  it.each([
    [
      'MoebiusGatherRows',
      () => [matrix([1], 1, 1), indices([1])],
      {},
      /token\[0\]: must be in \[0, 1\), got 1/,
    ],
    ['MoebiusEmbeddingGrad', () => [matrix([1], 1, 1), indices([-1])], { vocabulary: 3 }, /ids\[0\]/],
    ['MoebiusScatterScores', () => [vector([1]), indices([6])], { tokens: 2, experts: 3 }, /source\[0\]/],
    [
      'MoebiusCombineRows',
      () => [matrix([1], 1, 1), vector([]), indices([0, 1]), indices([1])],
      {},
      /slot\[0\]: must be in \[0, 1\), got 1/,
    ],
  ] as const)('%s refuses an index out of range', (name, inputs, attributes, message) => {
    expect(() => run(name, inputs(), attributes)).toThrow(message);
  });
});
