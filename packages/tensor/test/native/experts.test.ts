import { beforeAll, describe, expect, it } from 'vitest';

import { memory } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { experts, linear, planOf } from './oracles.ts';
import type { OraclePlan } from './oracles.ts';
import {
  createNumbers,
  differences,
  expectClose,
  indices,
  matrix,
  run,
  startNative,
  vector,
} from './start-native.ts';

beforeAll(startNative);

interface Case {
  readonly plan: OraclePlan;
  readonly sizes: { D: number; F: number; activation: string };
  readonly tensors: Float64Array[];
}

function caseOf(
  chosen: readonly (readonly number[])[],
  E: number,
  D: number,
  F: number,
  activation = 'silu',
): Case {
  const plan = planOf(chosen, E);
  const numbers = createNumbers(D * 31 + F + E);
  const weights = Array.from({ length: 3 }, () => numbers(E * F * D, 0.5));
  return {
    plan,
    sizes: { D, F, activation },
    tensors: [numbers(plan.tokens * D), numbers(plan.token.length), ...weights],
  };
}

function inputsOf({ plan, sizes, tensors }: Case): Tensor[] {
  const { D, F } = sizes;
  const [x, weights, ...matrices] = tensors;
  const lists = matrices.flatMap((all) =>
    Array.from({ length: plan.experts }, (_, e) => matrix(all.subarray(e * F * D, (e + 1) * F * D), F, D)),
  );
  const plans = [plan.offsets, plan.token, plan.tokenOffsets, plan.slot].map(indices);
  return [matrix(x!, plan.tokens, D), vector(weights!), ...plans, ...lists];
}

/** Token t takes experts t·3 … t·3+k−1 modulo E: uneven, some empty. */
const spread = (T: number, E: number, k: number): number[][] =>
  Array.from({ length: T }, (_, t) => Array.from({ length: t % (k + 1) }, (_, i) => (t * 3 + i * i) % E)).map(
    (list) => [...new Set(list)],
  );

const cases: [string, Case][] = [
  ['one token, one expert', caseOf([[0]], 1, 1, 1)],
  ['one token, two of three experts', caseOf([[0, 2]], 3, 19, 33)],
  ['few rows, empty experts', caseOf(spread(6, 7, 3), 7, 21, 130)],
  ['more rows than the few-row path takes', caseOf(spread(60, 5, 3), 5, 23, 29)],
  [
    'one expert with all rows',
    caseOf(
      Array.from({ length: 41 }, () => [1]),
      2,
      16,
      17,
    ),
  ],
  ['a mix of both paths', caseOf([...Array.from({ length: 30 }, () => [0]), [0, 1], [1], []], 3, 37, 70)],
  ['gelu', caseOf(spread(20, 3, 2), 3, 9, 10, 'gelu')],
  ['gelu_tanh', caseOf(spread(20, 3, 2), 3, 9, 10, 'gelu_tanh')],
  ['relu', caseOf(spread(20, 3, 2), 3, 9, 10, 'relu')],
];

describe('MoebiusExpertFeedForward', () => {
  it.each(cases)('matches the loop oracle: %s', (_, c) => {
    const [y] = run('MoebiusExpertFeedForward', inputsOf(c), { activation: c.sizes.activation });
    expectClose(y!, experts(c.plan, c.sizes, c.tensors));
  });

  it.each(cases.filter(([, c]) => c.plan.experts * c.sizes.D * c.sizes.F < 1200))(
    'has the gradient of central differences: %s',
    (_, c) => {
      const { plan, sizes, tensors } = c;
      const dy = createNumbers(77)(plan.tokens * sizes.D);
      const want = differences((changed) => experts(plan, sizes, changed), tensors, dy);
      const attributes = { activation: sizes.activation };
      const [, g, u] = run('MoebiusExpertFeedForward', inputsOf(c), attributes);
      const saved = [g!, u!].map((values) => matrix(values, plan.token.length, sizes.F));
      const got = run(
        'MoebiusExpertFeedForwardGrad',
        [...inputsOf(c), ...saved, matrix(dy, plan.tokens, sizes.D)],
        attributes,
      );
      expectClose(got[0]!, want[0]!);
      expectClose(got[1]!, want[1]!);
      const lists = [0, 1, 2].map((i) => got.slice(2 + i * plan.experts, 2 + (i + 1) * plan.experts));
      for (const [i, list] of lists.entries())
        expectClose(
          list.flatMap((one) => [...one]),
          want[2 + i]!,
        );
    },
  );

  it('gives zero gradients to experts without rows, and the same bytes twice', () => {
    const c = caseOf(
      Array.from({ length: 300 }, (_, t) => [t % 2, 3]),
      5,
      48,
      50,
    );
    const attributes = { activation: 'silu' };
    const dy = createNumbers(5)(300 * 48);
    const grads = (): Float32Array[] => {
      const [, g, u] = run('MoebiusExpertFeedForward', inputsOf(c), attributes);
      const saved = [g!, u!].map((values) => matrix(values, c.plan.token.length, 50));
      return run('MoebiusExpertFeedForwardGrad', [...inputsOf(c), ...saved, matrix(dy, 300, 48)], attributes);
    };
    const [first, second] = [grads(), grads()];
    expect(first).toEqual(second);
    for (const list of [0, 1, 2]) {
      expect(first[2 + list * 5 + 2]!.every((value) => value === 0)).toBe(true);
      expect(first[2 + list * 5 + 3]!.some((value) => value !== 0)).toBe(true);
    }
  });

  it('gives zeros when no token is routed', () => {
    const c = caseOf([[], [], []], 2, 5, 4);
    const [y, g] = run('MoebiusExpertFeedForward', inputsOf(c), { activation: 'silu' });
    expect([...y!]).toEqual(Array.from({ length: 15 }, () => 0));
    expect(g!.length).toBe(0);
  });

  it('frees everything it makes', () => {
    const before = memory().numTensors;
    const bytes = memory().numBytes;
    run('MoebiusExpertFeedForward', inputsOf(caseOf(spread(9, 3, 2), 3, 8, 8)), { activation: 'silu' });
    expect(memory().numTensors).toBe(before);
    expect(memory().numBytes).toBe(bytes);
  });
});

describe('a bad plan', () => {
  const good = caseOf(spread(9, 3, 2), 3, 8, 8);
  const attributes = { activation: 'silu' };
  const broken = (place: number, values: number[]): Tensor[] =>
    inputsOf(good).map((input, i) => (i === place ? indices(values) : input));
  const changed = (values: readonly number[], at: number, value: number): number[] =>
    values.map((v, i) => (i === at ? value : v));

  it.each([
    ['offsets that fall', 2, changed(good.plan.offsets, 1, 100), /offsets/],
    ['offsets that do not start at 0', 2, changed(good.plan.offsets, 0, 1), /offsets\[0\]: must be 0/],
    [
      'offsets of another expert count',
      2,
      [0, good.plan.token.length],
      /offsets: must have shape \[4\], got \[2\]/,
    ],
    ['a token out of range', 3, changed(good.plan.token, 2, 9), /token\[2\]: must be in \[0, 9\), got 9/],
    ['a negative token', 3, changed(good.plan.token, 0, -1), /token\[0\]/],
    ['token offsets with a wrong end', 4, changed(good.plan.tokenOffsets, 9, 1), /token_offsets/],
    ['a slot out of range', 5, changed(good.plan.slot, 0, 1_000_000), /slot\[0\]/],
  ] as const)('is refused: %s', (_, place, values, message) => {
    expect(() => run('MoebiusExpertFeedForward', broken(place, [...values]), attributes)).toThrow(message);
  });

  it('is refused: experts of different shapes', () => {
    const inputs = inputsOf(good).map((input, i) =>
      i === 7 ? matrix(new Float32Array(64 + 8), 9, 8) : input,
    );
    expect(() => run('MoebiusExpertFeedForward', inputs, attributes)).toThrow(
      /gate: must have shape \[8,8\], got \[9,8\]/,
    );
  });

  it('is refused: an unknown activation', () => {
    expect(() => run('MoebiusExpertFeedForward', inputsOf(good), { activation: 'swish' })).toThrow(
      /activation/,
    );
  });
});

describe('MoebiusGroupedMatMul', () => {
  const plan = planOf([...Array.from({ length: 25 }, () => [1]), [3], [0], [0]], 4);
  const [I, O, N] = [13, 18, plan.token.length];
  const numbers = createNumbers(8);
  const [x, w, dy] = [numbers(N * I), numbers(4 * O * I), numbers(N * O)];
  const oracle = ([x, w]: readonly Float64Array[]): Float64Array =>
    Float64Array.from(
      [0, 1, 2, 3].flatMap((e) => {
        const [from, to] = [plan.offsets[e]!, plan.offsets[e + 1]!];
        return [
          ...linear(x!.subarray(from * I, to * I), w!.subarray(e * O * I, (e + 1) * O * I), to - from, I),
        ];
      }),
    );
  const inputs = (): Tensor[] => [
    matrix(x, N, I),
    indices(plan.offsets),
    ...[0, 1, 2, 3].map((e) => matrix(w.subarray(e * O * I, (e + 1) * O * I), O, I)),
  ];

  it('multiplies each group by its own weight', () => {
    expectClose(run('MoebiusGroupedMatMul', inputs())[0]!, oracle([x, w]));
  });

  it('has the gradient of central differences', () => {
    const want = differences(oracle, [x, w], dy);
    const [dx, ...dw] = run('MoebiusGroupedMatMulGrad', [...inputs(), matrix(dy, N, O)]);
    expectClose(dx!, want[0]!);
    expectClose(
      dw.flatMap((one) => [...one]),
      want[1]!,
    );
  });
});
