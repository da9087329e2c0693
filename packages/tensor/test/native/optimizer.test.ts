import { afterEach, beforeAll, describe, expect, it } from 'vitest';

import { memory, scalar, tensor2d, tidy } from '@tensorflow/tfjs';
import type { TensorInfo } from '@tensorflow/tfjs';

import { nativeKernel } from '../../src/native/kernels.ts';
import { createResourceVariable } from '../../src/native/resource-variable.ts';
import type { ResourceVariable } from '../../src/native/resource-variable.ts';
import { createNumbers, expectClose, run, startNative, vector } from './start-native.ts';

beforeAll(startNative);

const numbers = createNumbers(6);
const sizes = [1, 17, 40_000];
let made: ResourceVariable[] = [];
let count = 0;

const variable = (values: ArrayLike<number>): ResourceVariable => {
  const value = vector(values);
  const created = createResourceVariable(value, `test-${count++}`);
  value.dispose();
  made.push(created);
  return created;
};

afterEach(() => {
  for (const one of made) one.dispose();
  made = [];
  expect(memory().numTensors).toBe(0);
});

const valuesOf = (one: ResourceVariable): Float32Array => {
  const value = one.read();
  const values = value.dataSync() as Float32Array;
  value.dispose();
  return values;
};

interface Step {
  readonly lr: number;
  readonly step: number;
  readonly clip: number;
  readonly decays: readonly number[];
}
const [beta1, beta2, epsilon] = [0.9, 0.99, 1e-8];

function update(
  lists: ResourceVariable[][],
  gradients: Float64Array[],
  { lr, step, clip, decays }: Step,
): void {
  tidy(() => {
    const inputs: TensorInfo[] = [
      ...lists.flat().map((one) => one.handle),
      ...gradients.map((g) => vector(g)),
      vector([lr, beta1 ** step, beta2 ** step, beta1, beta2, epsilon]),
      vector([clip]),
      vector(decays),
    ];
    expect(nativeKernel('MoebiusAdamW')!(inputs)).toEqual([]);
  });
}

describe('MoebiusAdamW', () => {
  it('does what AdamW says, over three steps and sizes', () => {
    const start = sizes.map((size) => numbers(size));
    const lists = [
      start,
      start.map((x) => new Float64Array(x.length)),
      start.map((x) => new Float64Array(x.length)),
    ];
    const variables = lists.map((list) => list.map((values) => variable(values)));
    const decays = [0, 0.1, 0.01];
    for (let step = 1; step <= 3; step++) {
      const gradients = sizes.map((size) => numbers(size));
      update(variables, gradients, { lr: 0.01, step, clip: 0.5, decays });
      const [p, m, v] = lists as [Float64Array[], Float64Array[], Float64Array[]];
      for (const [i, g] of gradients.entries()) {
        for (let j = 0; j < g.length; j++) {
          const slope = 0.5 * g[j]!;
          m[i]![j] = beta1 * m[i]![j]! + (1 - beta1) * slope;
          v[i]![j] = beta2 * v[i]![j]! + (1 - beta2) * slope * slope;
          const mean = m[i]![j]! / (1 - beta1 ** step);
          const root = Math.sqrt(v[i]![j]! / (1 - beta2 ** step));
          p[i]![j] = p[i]![j]! * (1 - 0.01 * decays[i]!) - (0.01 * mean) / (root + epsilon);
        }
      }
    }
    for (const [l, list] of variables.entries())
      for (const [i, one] of list.entries()) expectClose(valuesOf(one), lists[l]![i]!, 1e-5);
  });

  it('leaves a value that was read and is still held as it was', () => {
    const [p, m, v] = [variable([1, 2, 3]), variable([0, 0, 0]), variable([0, 0, 0])];
    const held = p.read();
    update([[p], [m], [v]], [Float64Array.of(1, 1, 1)], { lr: 0.5, step: 1, clip: 1, decays: [0] });
    expect([...(held.dataSync() as Float32Array)]).toEqual([1, 2, 3]);
    expectClose(valuesOf(p), [0.5, 1.5, 2.5], 1e-5);
    held.dispose();
  });

  it('refuses a variable given twice and a gradient of another size, and changes nothing', () => {
    const [p, m] = [variable([1, 2]), variable([0, 0])];
    const step = { lr: 1, step: 1, clip: 1, decays: [0] };
    expect(() => update([[p], [m], [m]], [Float64Array.of(1, 1)], step)).toThrow(/each must be given once/);
    const v = variable([0, 0]);
    expect(() => update([[p], [m], [v]], [Float64Array.of(1)], step)).toThrow(/must have 1 elements/);
    expect([...valuesOf(p)]).toEqual([1, 2]);
  });

  it('refuses to assign another shape', () => {
    const p = variable([1, 2]);
    const wrong = tensor2d([[1, 2]]);
    expect(() => p.assign(wrong)).toThrow(/must be assigned float32 \[2\], got float32 \[1,2\]/);
    wrong.dispose();
  });
});

describe('MoebiusGlobalNorm', () => {
  it('sums squares in double precision over all tensors, the same bytes twice', () => {
    const lists = sizes.map((size) => numbers(size, 100));
    const want = lists.flatMap((list) => [...list]).reduce((total, x) => total + x * x, 0);
    const [first] = run('MoebiusGlobalNorm', lists.map(vector));
    const [second] = run('MoebiusGlobalNorm', lists.map(vector));
    expect(first![0]! / want).toBeCloseTo(1, 6);
    expect(first![1]).toBe(1);
    expect(second).toEqual(first);
  });

  it.each([NaN, Infinity, -Infinity])('says that %f is not finite', (bad) => {
    const [out] = run('MoebiusGlobalNorm', [vector([1, 2]), vector([3, bad, 4]), scalar(1)]);
    expect(out![1]).toBe(0);
  });
});
