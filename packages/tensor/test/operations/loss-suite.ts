/** @file Cross-entropy, top-k, global norm. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  add,
  disposeTree,
  globalNorm,
  grads,
  mul,
  softmaxCrossEntropy,
  softmaxCrossEntropyBackward,
  softmaxCrossEntropyForward,
  tensor1d,
  tensor2d,
  topK,
  topKBackward,
  topKForward,
} from '../../src/index.ts';
import type { Scalar, Tensor2D } from '../../src/index.ts';
import {
  referenceCrossEntropy,
  referenceTopK,
  sampleMatrix,
  sampleVector,
  toMatrix,
} from '../../src/testing/index.ts';
import { describePair, list, rowsOf } from './pair-suite.ts';

const width = fc.integer({ min: 1, max: 9 });

export function describeLosses(): void {
  const sizes = fc.record({
    rows: width,
    v: width,
    zLossCoefficient: fc.constantFrom(0, 0.1),
    ignored: fc.nat(3),
  });
  describePair('softmaxCrossEntropy', { sizes }, ({ rows, v, zLossCoefficient, ignored }) => {
    const ignoreIndex = -100;
    const targets = Int32Array.from({ length: rows }, (_, t) => (t < ignored ? ignoreIndex : (t * 7) % v));
    const options = { ignoreIndex, zLossCoefficient };
    return {
      inputs: [sampleMatrix(rows, v, 'logits', 3)],
      forward: ([logits]) => {
        const { value, saved } = softmaxCrossEntropyForward(logits as Tensor2D, targets, options);
        const expected = referenceCrossEntropy(toMatrix(logits!), targets, ignoreIndex);
        expect(value.count).toBe(expected.count);
        expect(value.loss).toBeAllClose([expected.loss], { atol: 1e-5 });
        expect(value.zLoss).toBeAllClose([expected.zLoss], { atol: 1e-5 });
        expect(value.lossPerRow).toBeAllClose(expected.lossPerRow, { atol: 1e-5 });
        const scaled = mul(value.zLoss, zLossCoefficient);
        const total = add(value.loss, scaled);
        disposeTree([value, scaled]);
        return { value: total, saved };
      },
      backward: (saved, dy) => [softmaxCrossEntropyBackward(saved, dy as Scalar).dlogits],
      tape: ([logits]) => softmaxCrossEntropy(logits as Tensor2D, targets, options),
      oracle: ([logits]) => {
        const { loss, zLoss } = referenceCrossEntropy(rowsOf(logits!, v), targets, ignoreIndex);
        return [loss + zLossCoefficient * zLoss];
      },
    };
  });

  describe('softmaxCrossEntropy', () => {
    it('stays finite for logits that overflow exp', () => {
      const logits = tensor2d([1000, 0, -1000, 0], [2, 2]);
      const { value, saved } = softmaxCrossEntropyForward(logits, Int32Array.of(0, 1));
      const { dlogits } = softmaxCrossEntropyBackward(saved);
      expect(list(value.loss)).toEqual([0]);
      expect(list(dlogits)).toEqual([0, 0, 0, 0]);
      disposeTree([logits, value, saved, dlogits]);
    });

    it('is 0 with zero gradient when every target is ignored', () => {
      const logits = sampleMatrix(3, 4, 'logits');
      const { value, saved } = softmaxCrossEntropyForward(logits, Int32Array.of(-1, -1, -1));
      const { dlogits } = softmaxCrossEntropyBackward(saved, 5);
      expect(value.count).toBe(0);
      expect(list(value.loss)).toEqual([0]);
      expect(list(dlogits).every((x) => x === 0)).toBe(true);
      disposeTree([logits, value, saved, dlogits]);
    });

    it('takes targets as an int32 tensor', () => {
      const logits = sampleMatrix(3, 4, 'logits');
      const targets = tensor1d([3, -1, 0], 'int32');
      const device = softmaxCrossEntropyForward(logits, targets);
      const host = softmaxCrossEntropyForward(logits, Int32Array.of(3, -1, 0));
      expect(list(device.value.loss)).toEqual(list(host.value.loss));
      disposeTree([logits, targets, device, host]);
    });

    it('rejects a target outside the vocabulary and a wrong number of targets', () => {
      const logits = sampleMatrix(2, 4, 'logits');
      expect(() => softmaxCrossEntropyForward(logits, Int32Array.of(0, 4))).toThrow(
        /targets\[1\].*\[0, 4\).*got 4/,
      );
      expect(() => softmaxCrossEntropyForward(logits, Int32Array.of(0))).toThrow(/must be 2, got 1/);
      logits.dispose();
    });
  });
  describeTopK();
  describeGlobalNorm();
}

function describeTopK(): void {
  const sizes = fc.record({ rows: width, columns: width }).chain(({ rows, columns }) =>
    fc.record({
      rows: fc.constant(rows),
      columns: fc.constant(columns),
      k: fc.integer({ min: 1, max: columns }),
    }),
  );
  describePair('topK', { sizes }, ({ rows, columns, k }) => ({
    inputs: [sampleMatrix(rows, columns, 'scores')],
    forward: ([scores]) => {
      const { value, saved } = topKForward(scores as Tensor2D, k);
      expect(list(value.ids)).toEqual(referenceTopK(toMatrix(scores!), k).ids.flat());
      value.ids.dispose();
      return { value: value.values, saved };
    },
    backward: (saved, dy) => [topKBackward(saved, dy as Tensor2D).dscores],
    oracle: ([scores]) => referenceTopK(rowsOf(scores!, columns), k).values.flat(),
  }));

  describe('topK', () => {
    it('gives ties to the lowest index', () => {
      fc.assert(
        fc.property(
          fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 40 }),
          fc.nat(),
          (row, pick) => {
            const k = 1 + (pick % row.length);
            const scores = tensor2d(row, [1, row.length]);
            const { value, saved } = topKForward(scores, k);
            expect(list(value.ids)).toEqual(referenceTopK([row], k).ids[0]);
            disposeTree([scores, value, saved]);
          },
        ),
        { seed: 5, numRuns: 60 },
      );
    });

    it('is differentiable on the tape', () => {
      const scores = sampleMatrix(4, 6, 'scores');
      const dy = sampleMatrix(4, 2, 'dy');
      const { value, saved } = topKForward(scores, 2);
      const own = topKBackward(saved, dy);
      const [onTape] = grads((x) => topK(x as Tensor2D, 2).values)([scores], dy);
      expect(onTape!).toBeAllClose(list(own.dscores));
      const direct = topK(scores, 2);
      expect(list(direct.ids)).toEqual(list(value.ids));
      disposeTree([scores, dy, value, saved, own, onTape, direct]);
    });

    it('rejects a k outside [1, E]', () => {
      const scores = sampleMatrix(2, 3, 'scores');
      expect(() => topKForward(scores, 4)).toThrow(/\[1, 3\], got 4/);
      expect(() => topKForward(scores, 0)).toThrow(/\[1, 3\], got 0/);
      scores.dispose();
    });
  });
}

function describeGlobalNorm(): void {
  describe('globalNorm', () => {
    it('is the norm over every number of every tensor', () => {
      const tensors = [sampleMatrix(7, 5, 'a'), sampleVector(33, 'b'), sampleMatrix(1, 1, 'c')];
      const squares = tensors.flatMap(list).reduce((sum, x) => sum + x * x, 0);
      const { norm, finite } = globalNorm(tensors);
      expect(norm).toBeCloseTo(Math.sqrt(squares), 4);
      expect(finite).toBe(true);
      disposeTree(tensors);
    });

    it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('sees %s', (bad) => {
      const tensors = [sampleVector(9, 'a'), tensor1d([1, bad, 2])];
      expect(globalNorm(tensors).finite).toBe(false);
      disposeTree(tensors);
    });

    it('of nothing is 0', () => {
      expect(globalNorm([])).toEqual({ norm: 0, finite: true });
    });
  });
}
