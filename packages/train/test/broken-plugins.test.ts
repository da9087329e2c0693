import { isMoebiusError } from '@moebius/core';
import { createLocalExecutor, defineBalanceLoss, defineExecutor, loadBalanceLoss } from '@moebius/routing';
import type { BalanceLoss, ExecutorGradients, ExecutorOutput, ExpertExecutor } from '@moebius/routing';
import { disposeTree, memory, tensor1d, tensor2d, zeros } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { defineCallback } from '../src/index.ts';
import type { CallbackHooks, TrainerOptions } from '../src/index.ts';
import { runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

/** Message and code of a run that must fail, with every tensor freed. */
async function failure(parts: Partial<TrainerOptions>): Promise<{ code: string; message: string }> {
  const before = memory().numTensors;
  const config = smallConfig(place, {
    duration: { steps: 2 },
    evaluation: { everySteps: 1, tokens: 100 },
    output: place.freshOutput(),
  });
  try {
    await runToEnd(config, smallOptions(place, parts));
  } catch (error) {
    expect(memory().numTensors).toBe(before);
    if (isMoebiusError(error)) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error('the run ended well');
}

describe('a callback that throws', () => {
  const hooks: [keyof CallbackHooks, string][] = [
    ['onStart', 'start'],
    ['onStep', 'step'],
    ['onEvaluate', 'evaluate'],
    ['onSave', 'save'],
    ['onEnd', 'end'],
  ];
  it.each(hooks)('in %s is named with its event', async (hook, event) => {
    const broken = defineCallback({
      name: 'broken',
      [hook]: () => {
        throw new Error('no disk');
      },
    });
    expect(await failure({ callbacks: [broken] })).toEqual({
      code: 'plugin',
      message: `callback "broken": must not throw, got "no disk" at the ${event} event (fix or remove it)`,
    });
  });
});

describe('a balance loss', () => {
  const good = loadBalanceLoss({ pooling: 'per-layer' });
  const fail = (): never => {
    throw new TypeError('x is undefined');
  };
  const cases: [string, Partial<BalanceLoss>, string][] = [
    [
      'that throws in statistics',
      { statistics: fail },
      'balance loss "mine", statistics: must not throw, got "x is undefined" (fix or remove it)',
    ],
    [
      'that throws in value',
      { value: fail },
      'balance loss "mine", value: must not throw, got "x is undefined" (fix or remove it)',
    ],
    [
      'that throws in gradient',
      { gradient: fail },
      'balance loss "mine", gradient of sparse layer 1: must not throw, got "x is undefined" (fix or remove it)',
    ],
    [
      'whose counts are a list',
      { statistics: () => ({ counts: [1, 2] as never, sums: tensor1d([0]) }) },
      'balance loss "mine", statistics: must return counts as a Float64Array, got an object (fix or remove it)',
    ],
    [
      'whose sums are a matrix',
      { statistics: () => ({ counts: new Float64Array(1), sums: tensor2d([[1]]) as never }) },
      'balance loss "mine", statistics: must return sums of shape [any], got [1, 1] (fix or remove it)',
    ],
    [
      'whose value is no number',
      { value: () => '0.5' as never },
      'balance loss "mine", value: must return a number, got string "0.5" (fix or remove it)',
    ],
    [
      'whose gradient has another shape',
      { gradient: () => ({ dlogits: zeros([3, 4]) as Tensor2D }) },
      'balance loss "mine", gradient of sparse layer 1: must return dlogits of shape [128, 4] (tokens, experts), got [3, 4] (fix or remove it)',
    ],
    [
      'whose gradient is no object',
      { gradient: () => ({ dscores: 3 as never }) },
      'balance loss "mine", gradient of sparse layer 1: must return dscores of shape [128, 4] (tokens, experts), got number 3 (fix or remove it)',
    ],
  ];
  it.each(cases)('%s is named', async (_, parts, message) => {
    const loss = defineBalanceLoss({ ...good, name: 'mine', ...parts });
    expect(await failure({ balance: [{ loss, coefficient: 1 }] })).toEqual({ code: 'plugin', message });
  });

  it('whose value is NaN stops the step', async () => {
    const loss = defineBalanceLoss({ ...good, name: 'mine', value: () => NaN });
    expect(await failure({ balance: [{ loss, coefficient: 1 }] })).toEqual({
      code: 'numerics',
      message:
        'step 1: mine: must be finite, got NaN; every parameter is finite (lower optimizer.learningRate, clip harder, or leave such steps out with numerics.onNonFinite "skip"); no checkpoint was saved',
    });
  });
});

describe('an executor', () => {
  const local = createLocalExecutor();
  /** The local executor, its results changed. */
  function changed(parts: {
    readonly output?: (output: ExecutorOutput) => ExecutorOutput;
    readonly gradients?: (gradients: ExecutorGradients) => ExecutorGradients;
  }): ExpertExecutor {
    const { output = (same) => same, gradients = (same) => same } = parts;
    return defineExecutor({
      name: 'mine',
      accepts: local.accepts,
      *forward(input) {
        return output(yield* local.forward(input));
      },
      *backward(saved, dy) {
        return gradients(yield* local.backward(saved, dy));
      },
    });
  }
  /** Frees what is replaced. */
  function replace<T extends object>(whole: T, key: keyof T, value: unknown): T {
    disposeTree(whole[key] as never);
    return { ...whole, [key]: value };
  }
  const fail = (): never => {
    throw new Error('worker is gone');
  };
  const cases: [string, ExpertExecutor, string][] = [
    [
      'that throws forward',
      changed({ output: (out) => (disposeTree(out as never), fail()) }),
      'executor "mine", forward of layer 0: must not throw, got "worker is gone" (fix or remove it)',
    ],
    [
      'that throws backward',
      changed({ gradients: (out) => (disposeTree(out as never), fail()) }),
      'executor "mine", backward of layer 1: must not throw, got "worker is gone" (fix or remove it)',
    ],
    [
      'whose output has another shape',
      changed({ output: (out) => replace(out, 'y', zeros([128, 31])) }),
      'executor "mine", forward of layer 0: must return y of shape [128, 32] (tokens, model width), got [128, 31] (fix or remove it)',
    ],
    [
      'whose output is nothing',
      changed({ output: (out) => (disposeTree(out as never), undefined as never) }),
      'executor "mine", forward of layer 0: must return y of shape [128, 32] (tokens, model width), got nothing (fix or remove it)',
    ],
    [
      'whose hidden gradient has another shape',
      changed({ gradients: (out) => replace(out, 'hidden', zeros([1, 32])) }),
      'executor "mine", backward of layer 1: must return hidden of shape [128, 32], got [1, 32] (fix or remove it)',
    ],
    [
      'whose weight gradient has another shape',
      changed({
        gradients: (out) => replace(out, 'route', { kind: 'pairs', weights: zeros([7]) as Tensor1D }),
      }),
      'executor "mine", backward of layer 1: must return route.weights of shape [256], got [7] (fix or remove it)',
    ],
    [
      'that forgets an expert',
      changed({ gradients: (out) => ({ ...out, experts: keepThree(out.experts) }) }),
      'executor "mine", backward of layer 1: must return experts of length 4, got 3 (fix or remove it)',
    ],
  ];
  it.each(cases)('%s is named with the layer', async (_, executor, message) => {
    expect(await failure({ executor })).toEqual({ code: 'plugin', message });
  });

  it('that keeps to its contract trains like the one it wraps', async () => {
    const config = smallConfig(place, { duration: { steps: 2 } });
    const own = stepsOf(await runToEnd(config, smallOptions(place, { executor: changed({}) })));
    const plain = stepsOf(await runToEnd(config, smallOptions(place)));
    expect(own.map(({ loss }) => loss)).toEqual(plain.map(({ loss }) => loss));
  });
});

function keepThree<T>(experts: readonly T[]): T[] {
  disposeTree(experts.slice(3) as never);
  return experts.slice(0, 3);
}
