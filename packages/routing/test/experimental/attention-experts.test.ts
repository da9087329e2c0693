import { attention, createEngine, disposeTree, linear, runOp, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { moaBackward, moaForward } from '../../src/experimental/index.ts';
import type { MoaParameters } from '../../src/experimental/index.ts';
import { planPairs, planTopK } from '../../src/index.ts';
import type { DispatchPlan, PairsRoute } from '../../src/index.ts';
import {
  inner,
  kitRng,
  randomTensor,
  randomValues,
  valuesOf,
  withoutLeak,
} from '../../src/testing/checks.ts';
import { checkClose, checkGradient } from '../../src/testing/index.ts';

const [sequences, length, width, heads, head] = [2, 3, 4, 2, 3];
const tokens = sequences * length;
const options = { sequences, heads };

beforeAll(async () => {
  await createEngine();
});

interface Layer {
  readonly x: Tensor2D;
  readonly weights: Tensor1D;
  readonly parameters: MoaParameters;
}

function randomLayer(plan: DispatchPlan): Layer {
  const part = (name: string, rows: number, columns: number): Tensor2D =>
    randomTensor(kitRng(`moa ${name}`), [rows, columns], 0.7);
  return {
    x: part('x', tokens, width),
    weights: tensor1d(randomValues(kitRng('moa weights'), plan.token.length), 'float32'),
    parameters: {
      key: part('key', heads * head, width),
      value: part('value', heads * head, width),
      experts: Array.from({ length: plan.experts }, (_, e) => ({
        query: part(`query ${e}`, heads * head, width),
        output: part(`output ${e}`, width, heads * head),
      })),
    },
  };
}

const plans: Record<string, DispatchPlan> = {
  'two of three experts': planTopK(Int32Array.of(0, 1, 2, 0, 1, 2, 2, 1, 0, 2, 1, 0), {
    tokens,
    experts: 3,
    topK: 2,
  }),
  'a variable number of experts, and none': planPairs(Int32Array.of(0, 1, 2, 2, 1, 0, 1), {
    experts: 3,
    tokenOffsets: Int32Array.of(0, 3, 4, 4, 5, 6, 7),
  }),
};

/** One pair after another, one head after another, on the host. */
function moaLoop(layer: Layer, plan: DispatchPlan): number[] {
  const [x, weights] = [valuesOf(layer.x), valuesOf(layer.weights)];
  const rowsTimes = (matrix: Tensor, row: ArrayLike<number>): number[] => {
    const values = valuesOf(matrix);
    return Array.from({ length: matrix.shape[0]! }, (_, i) =>
      inner(values.subarray(i * row.length, (i + 1) * row.length), row),
    );
  };
  const rowOf = (t: number): Float32Array => x.subarray(t * width, (t + 1) * width);
  const y = Array.from({ length: tokens * width }, () => 0);
  for (let n = 0; n < plan.source.length; n += 1) {
    const [t, e] = [Math.floor(plan.source[n]! / plan.experts), plan.source[n]! % plan.experts];
    const expert = layer.parameters.experts[e]!;
    const q = rowsTimes(expert.query, rowOf(t));
    const first = Math.floor(t / length) * length;
    const seen = Array.from({ length: t - first + 1 }, (_, i) => first + i);
    const joined = Array.from({ length: heads }, (_, h) => {
      const part = (vector: number[]): number[] => vector.slice(h * head, (h + 1) * head);
      const scores = seen.map((s) =>
        Math.exp(inner(part(q), part(rowsTimes(layer.parameters.key, rowOf(s)))) / Math.sqrt(head)),
      );
      const total = scores.reduce((sum, value) => sum + value, 0);
      return Array.from({ length: head }, (_unused, c) =>
        seen.reduce(
          (sum, s, i) => sum + (scores[i]! / total) * part(rowsTimes(layer.parameters.value, rowOf(s)))[c]!,
          0,
        ),
      );
    }).flat();
    const out = rowsTimes(expert.output, joined);
    for (let d = 0; d < width; d += 1) y[t * width + d]! += weights[n]! * out[d]!;
  }
  return y;
}

describe('attention experts', () => {
  it('E3: one expert, one choice and weight 1 is multi-head attention', () => {
    withoutLeak('moa', () => {
      const plan = planTopK(new Int32Array(tokens), { tokens, experts: 1, topK: 1 });
      const layer = randomLayer(plan);
      const weights = tensor1d(new Float32Array(tokens).fill(1));
      const route: PairsRoute = { kind: 'pairs', plan, weights };
      const { value, saved } = moaForward({ x: layer.x, route }, layer.parameters, options);
      const { key, value: values, experts } = layer.parameters;
      const plain = runOp('mha', () =>
        linear(
          attention(linear(layer.x, experts[0]!.query), linear(layer.x, key), linear(layer.x, values), {
            batch: sequences,
            heads,
            kvHeads: heads,
          }),
          experts[0]!.output,
        ),
      );
      expect(valuesOf(value)).toEqual(valuesOf(plain));
      disposeTree([layer, weights, value, saved, plain]);
    });
  });

  for (const [title, plan] of Object.entries(plans)) {
    it(`equals a loop over pairs and heads, ${title}`, () => {
      withoutLeak('moa', () => {
        const layer = randomLayer(plan);
        const route: PairsRoute = { kind: 'pairs', plan, weights: layer.weights };
        const { value, saved } = moaForward({ x: layer.x, route }, layer.parameters, options);
        checkClose(valuesOf(value), moaLoop(layer, plan), 'y', { relative: 1e-4, absolute: 1e-5 });
        disposeTree([layer, value, saved]);
      });
    });

    it(`has the gradients of its forward, ${title}`, () => {
      withoutLeak('moa gradients', () => checkMoa(plan));
    });
  }

  it('a plan without pairs gives zero rows and zero gradients', () => {
    withoutLeak('moa empty', () => {
      const plan = planPairs(new Int32Array(0), { experts: 2, tokenOffsets: new Int32Array(tokens + 1) });
      const layer = randomLayer(plan);
      const route: PairsRoute = { kind: 'pairs', plan, weights: layer.weights };
      const { value, saved } = moaForward({ x: layer.x, route }, layer.parameters, options);
      const gradients = moaBackward(saved, layer.x);
      expect([value, gradients.dx].flatMap((tensor) => [...valuesOf(tensor)]).every((v) => v === 0)).toBe(
        true,
      );
      disposeTree([layer, value, saved, gradients]);
    });
  });

  it('refuses a list of experts that is not the plan’s', () => {
    withoutLeak('moa faults', () => {
      const plan = plans['two of three experts']!;
      const layer = randomLayer(plan);
      const route: PairsRoute = { kind: 'pairs', plan, weights: layer.weights };
      const parameters = { ...layer.parameters, experts: layer.parameters.experts.slice(1) };
      expect(() => moaForward({ x: layer.x, route }, parameters, options)).toThrow(
        'moa experts: must be 3, got 2',
      );
      disposeTree(layer);
    });
  });
});

function checkMoa(plan: DispatchPlan): void {
  const layer = randomLayer(plan);
  const direction = randomValues(kitRng('dy'), tokens * width);
  const dy = tensor2d(direction, [tokens, width]);
  const run = (moved: Partial<Layer>): ReturnType<typeof moaForward> => {
    const { x, weights, parameters } = { ...layer, ...moved };
    return moaForward({ x, route: { kind: 'pairs', plan, weights } }, parameters, options);
  };
  const { value, saved } = run({});
  const gradients = moaBackward(saved, dy);
  const check = (subject: string, gradient: Tensor, at: Tensor, move: (to: never) => Partial<Layer>): void =>
    checkGradient(valuesOf(gradient), {
      subject,
      at: valuesOf(at),
      f: (values) => {
        const moved = at.rank === 1 ? tensor1d(values) : tensor2d(values, at.shape as [number, number]);
        const output = run(move(moved as never));
        const total = inner(valuesOf(output.value), direction);
        disposeTree([moved, output]);
        return total;
      },
    });
  const { parameters } = layer;
  check('dx', gradients.dx, layer.x, (x) => ({ x }));
  check('dweights', gradients.dweights, layer.weights, (weights) => ({ weights }));
  for (const name of ['key', 'value'] as const)
    check(name, gradients.parameters[name], parameters[name], (moved) => ({
      parameters: { ...parameters, [name]: moved },
    }));
  for (const name of ['query', 'output'] as const)
    check(name, gradients.parameters.experts[1]![name], parameters.experts[1]![name], (moved) => ({
      parameters: {
        ...parameters,
        experts: parameters.experts.with(1, { ...parameters.experts[1]!, [name]: moved }),
      },
    }));
  disposeTree([layer, dy, value, saved, gradients]);
}
