import { createEngine, disposeTree, readHostSync, scalar, tensor2d } from '@moebius/tensor';
import { centralDifferences, expectNoTensorLeak } from '@moebius/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';

import { distillationBackward, distillationForward } from '../../src/surgery/distillation.ts';
import type { DistillationOptions } from '../../src/surgery/distillation.ts';
import { randomTensor } from './host-layers.ts';

beforeAll(async () => {
  await createEngine();
});
expectNoTensorLeak();

const shape: [number, number] = [4, 5];
const student = randomTensor(shape, 'student').data;
const mentor = randomTensor(shape, 'teacher').data;
const targets = Int32Array.of(2, -1, 0, 4);

function softmaxOf(row: number[]): number[] {
  const top = Math.max(...row);
  const powers = row.map((value) => Math.exp(value - top));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

/** The formula, row by row. */
function oracle(softShare: number, temperature: number): { loss: number; soft: number; hard: number } {
  let [soft, hard, count] = [0, 0, 0];
  for (const [row, target] of targets.entries()) {
    if (target === -1) continue;
    count += 1;
    const logits = [...student.subarray(row * 5, row * 5 + 5)];
    const teacher = softmaxOf([...mentor.subarray(row * 5, row * 5 + 5)].map((value) => value / temperature));
    const own = softmaxOf(logits.map((value) => value / temperature));
    soft -= teacher.reduce((sum, share, v) => sum + share * Math.log(own[v]!), 0) * temperature ** 2;
    hard -= Math.log(softmaxOf(logits)[target]!);
  }
  return {
    soft: soft / count,
    hard: hard / count,
    loss: (softShare * soft + (1 - softShare) * hard) / count,
  };
}

function measure(options: Partial<DistillationOptions> = {}): {
  loss: number;
  soft: number;
  hard: number;
  dlogits: Float32Array;
} {
  const [logits, teacher] = [tensor2d(student, shape), tensor2d(mentor, shape)];
  try {
    const { value, saved } = distillationForward(logits, { teacher, targets, ...options });
    const dlogits = distillationBackward(saved);
    const result = {
      loss: readHostSync(value.loss)[0]!,
      soft: readHostSync(value.soft)[0]!,
      hard: readHostSync(value.hard)[0]!,
      dlogits: Float32Array.from(readHostSync(dlogits)),
    };
    disposeTree([value, saved, dlogits]);
    return result;
  } finally {
    disposeTree([logits, teacher]);
  }
}

describe('T3 distillation loss', () => {
  it('T3: is a quarter of the cross-entropy against the teacher and three quarters of that against the text', () => {
    const got = measure();
    const expected = oracle(0.25, 1);
    expect(got.soft).toBeCloseTo(expected.soft, 5);
    expect(got.hard).toBeCloseTo(expected.hard, 5);
    expect(got.loss).toBeCloseTo(0.25 * expected.soft + 0.75 * expected.hard, 5);
  });

  it('follows the formula for other shares and temperatures', () => {
    for (const [softShare, temperature] of [
      [0, 1],
      [1, 1],
      [0.5, 2],
      [0.9, 0.5],
    ] as const) {
      expect(measure({ softShare, temperature }).loss).toBeCloseTo(oracle(softShare, temperature).loss, 4);
    }
  });

  it('its gradient matches central differences', () => {
    for (const options of [{}, { softShare: 1, temperature: 2 }, { softShare: 0.6, temperature: 0.7 }]) {
      const [logits, teacher] = [tensor2d(student, shape), tensor2d(mentor, shape)];
      const one = scalar(1);
      const expected = centralDifferences(
        (x) => {
          const { value, saved } = distillationForward(x as typeof logits, { teacher, targets, ...options });
          disposeTree([saved, value.soft, value.hard]);
          return value.loss;
        },
        logits,
        one,
      );
      const got = measure(options).dlogits;
      for (const [at, value] of expected.entries()) expect(got[at]).toBeCloseTo(value, 3);
      disposeTree([logits, teacher, one]);
    }
  });

  it('rows without a target count in neither part and get no gradient', () => {
    const { dlogits } = measure();
    expect([...dlogits.subarray(5, 10)]).toEqual([0, 0, 0, 0, 0]);
    expect(measure({ targets: Int32Array.of(-1, -1, -1, -1) }).loss).toBe(0);
  });

  it('a student that gives the teacher’s logits has no gradient from the soft part', () => {
    const teacher = tensor2d(student, shape);
    for (const value of measure({ teacher, softShare: 1, temperature: 3 }).dlogits)
      expect(value).toBeCloseTo(0, 6);
    teacher.dispose();
  });

  it('backward multiplies the gradient', () => {
    const [logits, teacher] = [tensor2d(student, shape), tensor2d(mentor, shape)];
    const { value, saved } = distillationForward(logits, { teacher, targets });
    const [once, thrice] = [distillationBackward(saved), distillationBackward(saved, 3)];
    const [a, b] = [readHostSync(once), readHostSync(thrice)];
    for (const [at, gradient] of a.entries()) expect(b[at]).toBeCloseTo(3 * gradient, 5);
    disposeTree([logits, teacher, value, saved, once, thrice]);
  });

  it('says what does not fit', () => {
    const other = tensor2d([[1, 2]]);
    expect(() => measure({ teacher: other })).toThrow(
      'teacher: must have the shape [4, 5] of the logits, got [1, 2] (use models of one vocabulary on one batch)',
    );
    expect(() => measure({ softShare: 2 })).toThrow('softShare: must be from 0 to 1, got 2');
    expect(() => measure({ temperature: 0 })).toThrow('temperature: must be above 0 and finite, got 0');
    other.dispose();
  });
});
