/** @file Dense operations: linear maps, norms, feed-forward networks, fromTfjs. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  add,
  disposeTree,
  feedForward,
  feedForwardBackward,
  feedForwardForward,
  fromTfjs,
  gatedFeedForward,
  gatedFeedForwardBackward,
  gatedFeedForwardForward,
  linear,
  linearAddForward,
  linearBackward,
  linearForward,
  linearsBackward,
  linearsForward,
  mul,
  rmsNorm,
  rmsNormBackward,
  rmsNormForward,
  sigmoid,
  cloneTensor,
} from '../../src/index.ts';
import type { Activation, PlainWeights, Tensor, Tensor1D, Tensor2D } from '../../src/index.ts';
import {
  referenceFeedForward,
  referenceGatedFeedForward,
  referenceLinear,
  referenceRmsNorm,
  sampleMatrix,
  sampleVector,
} from '../../src/testing/index.ts';
import { describePair, list, rowsOf } from './pair-suite.ts';
import { withPortableBodies } from './portable-bodies.ts';

const width = fc.integer({ min: 1, max: 11 });
const sizes = fc.record({ rows: width, inputs: width, outputs: width });
export const activations: readonly Activation[] = ['silu', 'gelu', 'gelu_tanh', 'relu'];

export function describeDense(): void {
  describePair('linear', { sizes }, ({ rows, inputs, outputs }) => ({
    inputs: [sampleMatrix(rows, inputs, 'x'), sampleMatrix(outputs, inputs, 'w')],
    forward: ([x, w]) => linearForward(x as Tensor2D, w as Tensor2D),
    backward: (saved, dy) => {
      const { dx, dweight, dbias } = linearBackward(saved, dy as Tensor2D);
      expect(dbias).toBeUndefined();
      return [dx, dweight];
    },
    tape: ([x, w]) => linear(x as Tensor2D, w as Tensor2D),
    oracle: ([x, w]) => referenceLinear(rowsOf(x!, inputs), rowsOf(w!, inputs)).flat(),
  }));

  describePair('linear with bias', { sizes }, ({ rows, inputs, outputs }) => ({
    inputs: [sampleMatrix(rows, inputs, 'x'), sampleMatrix(outputs, inputs, 'w'), sampleVector(outputs, 'b')],
    forward: ([x, w, b]) => linearForward(x as Tensor2D, w as Tensor2D, b as Tensor1D),
    backward: (saved, dy) => {
      const { dx, dweight, dbias } = linearBackward(saved, dy as Tensor2D);
      return [dx, dweight, dbias!];
    },
    tape: ([x, w, b]) => linear(x as Tensor2D, w as Tensor2D, b as Tensor1D),
    oracle: ([x, w, b]) => referenceLinear(rowsOf(x!, inputs), rowsOf(w!, inputs), b).flat(),
  }));

  describePair('linearAdd', { sizes }, ({ rows, inputs, outputs }) => ({
    inputs: [
      sampleMatrix(rows, inputs, 'x'),
      sampleMatrix(outputs, inputs, 'w'),
      sampleMatrix(rows, outputs, 'r'),
    ],
    forward: ([x, w, r]) => linearAddForward(x as Tensor2D, w as Tensor2D, r as Tensor2D),
    backward: (saved, dy) => {
      const { dx, dweight } = linearBackward(saved, dy as Tensor2D);
      return [dx, dweight, cloneTensor(dy)];
    },
    oracle: ([x, w, r]) =>
      referenceLinear(rowsOf(x!, inputs), rowsOf(w!, inputs))
        .flat()
        .map((value, i) => value + r![i]!),
  }));

  describeLinears();

  describePair('rmsNorm', { sizes }, ({ rows, inputs }) => ({
    inputs: [sampleMatrix(rows, inputs, 'x'), sampleVector(inputs, 'w')],
    forward: ([x, w]) => rmsNormForward(x as Tensor2D, w as Tensor1D, { epsilon: 1e-3 }),
    backward: (saved, dy) => {
      const { dx, dweight } = rmsNormBackward(saved, dy as Tensor2D);
      return [dx, dweight];
    },
    tape: ([x, w]) => rmsNorm(x as Tensor2D, w as Tensor1D, { epsilon: 1e-3 }),
    oracle: ([x, w]) => referenceRmsNorm(rowsOf(x!, inputs), w!, 1e-3).flat(),
  }));

  it('rmsNorm adds the gradient that passes it by', () => {
    const [x, dy, residual] = [sampleMatrix(4, 9, 1), sampleMatrix(4, 9, 2), sampleMatrix(4, 9, 3)] as const;
    const w = sampleVector(9, 4);
    const { value, saved } = rmsNormForward(x, w);
    const run = (): number[] => {
      const plain = rmsNormBackward(saved, dy);
      const together = rmsNormBackward(saved, dy, residual);
      const sum = add(plain.dx, residual);
      expect(together.dx).toBeAllClose(list(sum));
      expect(together.dweight).toBeAllClose(list(plain.dweight));
      const numbers = list(together.dx);
      disposeTree([plain, together, sum]);
      return numbers;
    };
    expect(run()).toBeAllClose(withPortableBodies(run));
    disposeTree([x, w, dy, residual, value, saved]);
  });

  for (const activation of activations) describeFeedForward(activation);
  describeFromTfjs();
}

function describeLinears(): void {
  describe('linears', () => {
    it('equals one linear per weight, forward and backward', () => {
      const x = sampleMatrix(5, 7, 'x');
      const weights = [3, 4, 9].map((outputs) => sampleMatrix(outputs, 7, outputs));
      const dys = [3, 4, 9].map((outputs) => sampleMatrix(5, outputs, `dy${outputs}`));
      const together = linearsForward(x, weights);
      const gradients = linearsBackward(together.saved, dys);
      let dx: Tensor = mul(x, 0);
      for (const [l, weight] of weights.entries()) {
        const alone = linearForward(x, weight);
        const own = linearBackward(alone.saved, dys[l]!);
        expect(together.value[l]!).toBeAllClose(list(alone.value));
        expect(gradients.dweights[l]!).toBeAllClose(list(own.dweight));
        const sum = add(dx, own.dx);
        dx.dispose();
        dx = sum;
        disposeTree([alone, own]);
      }
      expect(gradients.dx).toBeAllClose(list(dx));
      disposeTree([x, weights, dys, together, gradients, dx]);
    });
  });
}

function describeFeedForward(activation: Activation): void {
  const matrices = (rows: number, d: number, f: number): Tensor[] => [
    sampleMatrix(rows, d, 'x'),
    sampleMatrix(f, d, 'gate'),
    sampleMatrix(f, d, 'up'),
    sampleMatrix(f, d, 'down'),
  ];
  describePair(`gatedFeedForward (${activation})`, { sizes }, ({ rows, inputs: d, outputs: f }) => ({
    inputs: matrices(rows, d, f),
    forward: (inputs) => {
      const [x, gate, up, down] = inputs as [Tensor2D, Tensor2D, Tensor2D, Tensor2D];
      return gatedFeedForwardForward(x, { gate, up, down }, { activation });
    },
    backward: (saved, dy) => {
      const { dx, dweights } = gatedFeedForwardBackward(saved, dy as Tensor2D);
      return [dx, dweights.gate, dweights.up, dweights.down];
    },
    tape: (inputs) => {
      const [x, gate, up, down] = inputs as [Tensor2D, Tensor2D, Tensor2D, Tensor2D];
      return gatedFeedForward(x, { gate, up, down }, { activation });
    },
    oracle: (flat) => {
      const [x, gate, up, down] = flat.map((values) => rowsOf(values, d));
      return referenceGatedFeedForward(x!, { gate: gate!, up: up!, down: down! }, activation).flat();
    },
  }));

  const plain = fc.record({ rows: width, d: width, f: width, upBias: fc.boolean(), downBias: fc.boolean() });
  describePair(`feedForward (${activation})`, { sizes: plain }, ({ rows, d, f, upBias, downBias }) => {
    const weightsOf = ([up, down, ...biases]: Tensor[]): PlainWeights => ({
      up: up as Tensor2D,
      down: down as Tensor2D,
      ...(upBias ? { upBias: biases[0] as Tensor1D } : {}),
      ...(downBias ? { downBias: biases.at(-1) as Tensor1D } : {}),
    });
    return {
      inputs: [
        sampleMatrix(rows, d, 'x'),
        sampleMatrix(f, d, 'up'),
        sampleMatrix(f, d, 'down'),
        ...(upBias ? [sampleVector(f, 'bu')] : []),
        ...(downBias ? [sampleVector(d, 'bd')] : []),
      ],
      forward: ([x, ...rest]) => feedForwardForward(x as Tensor2D, weightsOf(rest), { activation }),
      backward: (saved, dy) => {
        const { dx, dweights } = feedForwardBackward(saved, dy as Tensor2D);
        const biases = [dweights.upBias, dweights.downBias].filter((bias) => bias !== undefined);
        return [dx, dweights.up, dweights.down, ...biases];
      },
      tape: ([x, ...rest]) => feedForward(x as Tensor2D, weightsOf(rest), { activation }),
      oracle: ([x, up, down, ...biases]) =>
        referenceFeedForward(
          rowsOf(x!, d),
          {
            up: rowsOf(up!, d),
            down: rowsOf(down!, d),
            ...(upBias ? { upBias: biases[0]! } : {}),
            ...(downBias ? { downBias: biases.at(-1)! } : {}),
          },
          activation,
        ).flat(),
    };
  });
}

function describeFromTfjs(): void {
  const gate = fromTfjs((x, w) => mul(sigmoid(x!), w!));
  describePair('fromTfjs', { sizes }, ({ rows, inputs }) => ({
    inputs: [sampleMatrix(rows, inputs, 'x'), sampleMatrix(rows, inputs, 'w')],
    forward: (inputs_) => gate.forward(...inputs_),
    backward: (saved, dy) => gate.backward(saved, dy),
    oracle: ([x, w]) => x!.map((value, i) => w![i]! / (1 + Math.exp(-value))),
  }));

  it('fromTfjs gives zeros for an input the value does not depend on', () => {
    const pair = fromTfjs((x, _unused) => mul(x!, 2));
    const x = sampleMatrix(2, 3, 'x');
    const { value, saved } = pair.forward(x, x);
    const unrelated = sampleMatrix(2, 3, 'other');
    const other = pair.forward(x, unrelated);
    const gradients = pair.backward(other.saved, x);
    expect(list(gradients[1]!)).toEqual([0, 0, 0, 0, 0, 0]);
    disposeTree([x, value, saved, unrelated, other, gradients]);
  });
}
