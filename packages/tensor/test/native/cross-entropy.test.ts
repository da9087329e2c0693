import { beforeAll, describe, expect, it } from 'vitest';

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

/** Per row cross-entropy + c · lse², 0 where the target is −1. */
function losses(logits: Float64Array, targets: readonly number[], c: number): Float64Array {
  const V = logits.length / targets.length;
  return Float64Array.from(targets, (target, t) => {
    if (target === -1) return 0;
    const row = logits.subarray(t * V, (t + 1) * V);
    const top = Math.max(...row);
    const lse = top + Math.log(row.reduce((total, x) => total + Math.exp(x - top), 0));
    return lse - row[target]! + c * lse * lse;
  });
}

describe('MoebiusSoftmaxCrossEntropy', () => {
  it.each([
    [1, 1, 0],
    [3, 7, 0.5],
    [9, 37, 0.01],
    [4, 129, 0],
  ])('gives %i losses over %i classes and their gradient (z-loss %f)', (T, V, c) => {
    const numbers = createNumbers(T * V);
    const logits = numbers(T * V, 6);
    const targets = Array.from({ length: T }, (_, t) => (t === 1 ? -1 : (t * 5) % V));
    const [loss, z, dlogits] = run('MoebiusSoftmaxCrossEntropy', [matrix(logits, T, V), indices(targets)], {
      ignore_index: -1,
      z_loss: c,
    });
    expectClose(loss!, losses(logits, targets, 0));
    expectClose(
      loss!.map((value, t) => value + c * z![t]!),
      losses(logits, targets, c),
    );
    const ones = new Float64Array(T).fill(1);
    const [want] = differences(([changed]) => losses(changed!, targets, c), [logits], ones);
    expectClose(dlogits!, want!);
  });

  it('scales the gradient, not the loss, by gradient_scale', () => {
    const logits = createNumbers(1)(15, 3);
    const call = (attributes: Record<string, number>): Float32Array[] =>
      run('MoebiusSoftmaxCrossEntropy', [matrix(logits, 3, 5), indices([4, -1, 0])], {
        ignore_index: -1,
        z_loss: 0.1,
        ...attributes,
      });
    const [loss, z, gradient] = call({});
    const [sameLoss, sameZ, scaled] = call({ gradient_scale: 0.25 });
    expect([sameLoss, sameZ]).toEqual([loss, z]);
    expectClose(
      scaled!,
      gradient!.map((value) => value * 0.25),
      1e-7,
    );
  });

  it('stays exact for logits far apart', () => {
    const logits = [1000, -1000, 0, 500];
    const [loss, , gradient] = run('MoebiusSoftmaxCrossEntropy', [matrix(logits, 1, 4), indices([3])], {
      ignore_index: -1,
      z_loss: 0,
    });
    expect(loss![0]).toBe(500);
    expect([...gradient!]).toEqual([1, 0, 0, -1]);
  });

  it('has an exponential within 2 units in the last place, 0 below its range', () => {
    // softmax of [0, −x] with target 0: dlogits[1] = e^−x / (1 + e^−x).
    const xs = Array.from({ length: 2000 }, (_, i) => Math.fround((i / 2000) * 87));
    const logits = xs.flatMap((x) => [0, -x]);
    const zeros = xs.map(() => 0);
    const [, , gradient] = run('MoebiusSoftmaxCrossEntropy', [matrix(logits, 2000, 2), indices(zeros)], {
      ignore_index: -1,
      z_loss: 0,
    });
    const worst = Math.max(
      ...xs.map((x, i) => Math.abs(gradient![2 * i + 1]! / (Math.exp(-x) / (1 + Math.exp(-x))) - 1)),
    );
    expect(worst).toBeLessThan(4 * 2 ** -24 * 2);
  });

  it('refuses a target outside the vocabulary', () => {
    const attributes = { ignore_index: -1, z_loss: 0 };
    expect(() => run('MoebiusSoftmaxCrossEntropy', [matrix([1, 2], 1, 2), indices([2])], attributes)).toThrow(
      /targets\[0\]: must be in \[0, 2\) or -1, got 2/,
    );
  });
});
