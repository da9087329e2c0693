import { createEngine, disposeTree, tensor2d, zerosLike } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import {
  builtInCombiners,
  conditionalCombiner,
  defineSharedCombiner,
  shareBudget,
  sigmoidGateCombiner,
  softmaxMixCombiner,
  sumCombiner,
  weightedMeanCombiner,
} from '../src/experts/index.ts';
import type { SharedCombiner } from '../src/experts/index.ts';
import type { RouterParameters } from '../src/index.ts';
import { inner, kitRng, randomTensor, randomValues, valuesOf, withoutLeak } from '../src/testing/checks.ts';
import { checkClose, checkGradient } from '../src/testing/index.ts';

const [tokens, width, topK] = [5, 4, 3];

beforeAll(async () => {
  await createEngine();
});

interface Bench {
  readonly x: Tensor2D;
  readonly routed: Tensor2D;
  readonly shared: Tensor2D;
  readonly parameters: RouterParameters;
}

function createBench(combiner: SharedCombiner): Bench {
  const rows = (label: string): Tensor2D => randomTensor(kitRng(label), [tokens, width]);
  const shapes = Object.entries(combiner.parameterShapes(width));
  return {
    x: rows('x'),
    routed: rows('routed'),
    shared: rows('shared'),
    parameters: Object.fromEntries(shapes.map(([name, shape]) => [name, randomTensor(kitRng(name), shape)])),
  };
}

const logistic = (z: number): number => 1 / (1 + Math.exp(-z));

/** `[a, b]` of one token, by the published formula. */
const formulas: Record<string, (row: number[], own: Record<string, Float32Array>) => [number, number]> = {
  sum: () => [1, 1],
  'weighted-mean': () => [topK / (topK + 1), 1 / (topK + 1)],
  'sigmoid-gate': (row, { weight }) => [1, logistic(inner(row, weight!))],
  'softmax-mix': (row, { weight, bias }) => {
    const [left, right] = [0, 1].map((i) =>
      Math.exp(inner(row, weight!.subarray(i * width, (i + 1) * width)) + bias![i]!),
    ) as [number, number];
    return [left / (left + right), right / (left + right)];
  },
  conditional: (row, { weight }) => {
    const gate = logistic(inner(row, weight!));
    return [gate, 1 - gate];
  },
};

describe.each(builtInCombiners().map((combiner) => [combiner.name, combiner] as const))(
  'E2: shared expert by %s',
  (name, combiner) => {
    it('joins by the published formula, borrows its inputs and leaves nothing behind', () => {
      withoutLeak(name, () => {
        const bench = createBench(combiner);
        const { value, shares, saved } = combiner.forward({ ...bench, topK });
        const own = Object.fromEntries(
          Object.entries(bench.parameters).map(([key, tensor]) => [key, valuesOf(tensor)]),
        );
        const [x, routed, shared] = [bench.x, bench.routed, bench.shared].map(valuesOf);
        const expected = Array.from({ length: tokens }, (_, t) => {
          const [a, b] = formulas[name]!(Array.from(x!.subarray(t * width, (t + 1) * width)), own);
          return Array.from(
            { length: width },
            (_unused, d) => a * routed![t * width + d]! + b * shared![t * width + d]!,
          );
        });
        checkClose(valuesOf(value), expected.flat(), 'value', { relative: 1e-5, absolute: 1e-6 });
        disposeTree([bench, value, shares, saved]);
      });
    });

    it('gives the shared expert alone, times its share, where nothing is routed', () => {
      withoutLeak(name, () => {
        const bench = createBench(combiner);
        const routed = zerosLike(bench.routed);
        const { value, shares, saved } = combiner.forward({ ...bench, routed, topK });
        const [share, shared] = [valuesOf(shares), valuesOf(bench.shared)];
        checkClose(
          valuesOf(value),
          shared.map((entry, i) => entry * share[2 * Math.floor(i / width) + 1]!),
          'value',
          { relative: 1e-6, absolute: 1e-7 },
        );
        if (name === 'sum') expect(valuesOf(value)).toEqual(shared);
        disposeTree([bench, routed, value, shares, saved]);
      });
    });

    it('has the gradients of its forward, those of a loss on the shares included', () => {
      withoutLeak(name, () => checkCombiner(combiner));
    });
  },
);

function checkCombiner(combiner: SharedCombiner): void {
  const bench = createBench(combiner);
  const direction = randomValues(kitRng('dy'), tokens * width);
  const shareDirection = randomValues(kitRng('dshares'), tokens * 2);
  const dy = tensor2d(direction, [tokens, width]);
  const dshares = tensor2d(shareDirection, [tokens, 2]);
  const { value, shares, saved } = combiner.forward({ ...bench, topK });
  const gradients = combiner.backward(saved, { dy, dshares });
  const valueAt = (moved: Partial<Bench>): number => {
    const output = combiner.forward({ ...bench, ...moved, topK });
    const total = inner(valuesOf(output.value), direction) + inner(valuesOf(output.shares), shareDirection);
    disposeTree(output);
    return total;
  };
  const entries: [string, Tensor, Tensor, (tensor: Tensor2D) => Partial<Bench>][] = [
    ['dx', gradients.dx, bench.x, (x) => ({ x })],
    ['drouted', gradients.drouted, bench.routed, (routed) => ({ routed })],
    ['dshared', gradients.dshared, bench.shared, (shared) => ({ shared })],
    ...Object.entries(bench.parameters).map(
      ([name, at]): [string, Tensor, Tensor, (tensor: Tensor2D) => Partial<Bench>] => [
        name,
        gradients.parameters[name]!,
        at,
        (tensor) => ({ parameters: { ...bench.parameters, [name]: tensor } }),
      ],
    ),
  ];
  for (const [subject, gradient, at, move] of entries) {
    checkGradient(valuesOf(gradient), {
      subject,
      at: valuesOf(at),
      f: (values) => {
        const moved = tensor2d(values, at.rank === 2 ? (at.shape as [number, number]) : [1, at.size]);
        const shaped = moved.reshape(at.shape);
        const total = valueAt(move(shaped as Tensor2D));
        disposeTree([moved, shaped]);
        return total;
      },
    });
  }
  disposeTree([bench, dy, dshares, value, shares, saved, gradients]);
}

describe('conditional routing of NLLB', () => {
  it('sends a share of the tokens through the shared expert alone in training, and none outside', () => {
    withoutLeak('gate dropout', () => {
      const combiner = conditionalCombiner({ dropRate: 0.5 });
      const bench = createBench(combiner);
      const [train, again, evaluate] = [kitRng('drops'), kitRng('drops'), undefined].map((rng) =>
        combiner.forward({ ...bench, topK, ...(rng === undefined ? {} : { rng }) }),
      );
      const dropped = Array.from({ length: tokens }, (_, t) => valuesOf(train!.shares)[2 * t] === 0);
      expect(new Set(dropped)).toEqual(new Set([true, false]));
      for (const [t, isDropped] of dropped.entries()) {
        if (!isDropped) continue;
        const at = [t * width, (t + 1) * width] as const;
        expect(valuesOf(train!.value).subarray(...at)).toEqual(valuesOf(bench.shared).subarray(...at));
      }
      expect(valuesOf(again!.value)).toEqual(valuesOf(train!.value));
      expect(valuesOf(evaluate!.shares).every((share) => share > 0)).toBe(true);
      disposeTree([bench, train, again, evaluate]);
    });
    expect(() => conditionalCombiner({ dropRate: 1 })).toThrow(
      'conditionalCombiner: must be a valid configuration, got 1 fault:\n  dropRate: must be at least 0 and below 1, got 1',
    );
  });

  it('has a budget: the mean distance of the routed shares from it, and its gradient', () => {
    withoutLeak('budget', () => {
      const shares = tensor2d([
        [0.9, 0.1],
        [0.3, 0.7],
      ]);
      const { value, dshares } = shareBudget(shares, 0.5);
      expect(value).toBeCloseTo(0.3, 6);
      expect([...valuesOf(dshares)]).toEqual([0.5, 0, -0.5, 0]);
      disposeTree([shares, dshares]);
    });
  });
});

describe('combiners', () => {
  it('have the names and tensors that a configuration can mean', () => {
    expect(builtInCombiners().map(({ name }) => name)).toEqual([
      'sum',
      'sigmoid-gate',
      'softmax-mix',
      'conditional',
      'weighted-mean',
    ]);
    expect(sigmoidGateCombiner().parameterShapes(8)).toEqual({ weight: [1, 8] });
    expect(softmaxMixCombiner().parameterShapes(8)).toEqual({ weight: [2, 8], bias: [2] });
    expect(weightedMeanCombiner().parameterShapes(8)).toEqual({});
  });

  it('refuse rows of different shapes, and definitions without members', () => {
    withoutLeak('shapes', () => {
      const bench = createBench(sumCombiner());
      const short = tensor2d([[1, 2]]);
      expect(() => sumCombiner().forward({ ...bench, shared: short, topK })).toThrow(
        'shared combiner sum shared: T (axis 0) must be 5, got 1 in [1, 2] for [T, D]',
      );
      disposeTree([bench, short]);
    });
    expect(() => defineSharedCombiner({ name: 'empty' } as never)).toThrow(
      'shared combiner "empty": parameterShapes: must be a function, got undefined; forward: must be a function, got undefined; backward: must be a function, got undefined',
    );
  });
});
