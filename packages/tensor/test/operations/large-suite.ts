/** @file Sizes beyond one block of the native kernels: native against portable bodies, forward and backward. */
import { describe, expect, it } from 'vitest';

import {
  attentionBackward,
  attentionForward,
  disposeTree,
  expertFeedForwardBackward,
  expertFeedForwardForward,
  gatedFeedForwardBackward,
  gatedFeedForwardForward,
  headNormRopeBackward,
  headNormRopeForward,
  linearsBackward,
  linearsForward,
  listTensors,
  planRows,
  rmsNormBackward,
  rmsNormForward,
  rotaryTable,
  runOp,
  softmaxCrossEntropyBackward,
  softmaxCrossEntropyForward,
} from '../../src/index.ts';
import { sampleMatrix, sampleVector, toList } from '../../src/testing/index.ts';
import { withPortableBodies } from './portable-bodies.ts';

/** Everything an operation makes, forward and backward. */
const works: { readonly [name: string]: () => unknown } = {
  linears: () => {
    const weights = [129, 64, 200].map((o) => sampleMatrix(o, 131, o, 0.1));
    const { value, saved } = linearsForward(sampleMatrix(301, 131, 'x'), weights);
    return [value, linearsBackward(saved, value)];
  },
  rmsNorm: () => {
    const { value, saved } = rmsNormForward(sampleMatrix(301, 257, 'x'), sampleVector(257, 'w'));
    return [value, rmsNormBackward(saved, sampleMatrix(301, 257, 'dy'))];
  },
  headNormRope: () => {
    const table = rotaryTable({ headSize: 64, positions: 512 });
    const positions = Int32Array.from({ length: 301 }, (_, t) => (t * 17) % 512);
    const options = { heads: 3, positions, table };
    const { value, saved } = headNormRopeForward(sampleMatrix(301, 192, 'x'), sampleVector(64, 'w'), options);
    return [value, headNormRopeBackward(saved, sampleMatrix(301, 192, 'dy'))];
  },
  attention: () => {
    const [q, k, v] = [
      sampleMatrix(2 * 173, 256, 'q'),
      sampleMatrix(2 * 173, 128, 'k'),
      sampleMatrix(2 * 173, 128, 'v'),
    ] as const;
    const { value, saved } = attentionForward(q, k, v, { batch: 2, heads: 4, kvHeads: 2 });
    return [value, attentionBackward(saved, sampleMatrix(2 * 173, 256, 'dy'))];
  },
  gatedFeedForward: () => {
    const [gate, up, down] = ['g', 'u', 'd'].map((seed) => sampleMatrix(150, 131, seed, 0.1));
    const weights = { gate: gate!, up: up!, down: down! };
    const { value, saved } = gatedFeedForwardForward(sampleMatrix(301, 131, 'x'), weights);
    return [value, gatedFeedForwardBackward(saved, sampleMatrix(301, 131, 'dy'))];
  },
  expertFeedForward: () => {
    const chosen = Array.from({ length: 301 }, (_, t) =>
      t % 11 === 0 ? [] : [t % 7, (t * 3 + 1 + (t % 7)) % 7],
    );
    const plan = planRows(
      chosen.map((list) => [...new Set(list)]),
      8,
    );
    const experts = Array.from({ length: 8 }, (_, e) => ({
      gate: sampleMatrix(90, 131, `g${e}`, 0.1),
      up: sampleMatrix(90, 131, `u${e}`, 0.1),
      down: sampleMatrix(90, 131, `d${e}`, 0.1),
    }));
    const input = { plan, experts };
    const { value, saved } = expertFeedForwardForward(
      sampleMatrix(301, 131, 'x'),
      sampleVector(plan.token.length, 'w'),
      input,
    );
    return [value, expertFeedForwardBackward(saved, sampleMatrix(301, 131, 'dy'))];
  },
  softmaxCrossEntropy: () => {
    const targets = Int32Array.from({ length: 203 }, (_, t) => (t % 9 === 0 ? -1 : (t * 31) % 1009));
    const { value, saved } = softmaxCrossEntropyForward(sampleMatrix(203, 1009, 'l', 3), targets, {
      zLossCoefficient: 0.01,
    });
    return [value, softmaxCrossEntropyBackward(saved)];
  },
};

export function describeLarge(): void {
  describe('beyond one block', () => {
    it.each(Object.keys(works))('%s: native equals portable, forward and backward', (name) => {
      const run = (): number[][] => {
        const made = runOp(name, () => works[name]!());
        const numbers = listTensors(made).map(toList);
        disposeTree(made);
        return numbers;
      };
      const own = run();
      const portable = withPortableBodies(run);
      expect(own.length).toBeGreaterThan(1);
      for (const [i, numbers] of own.entries()) {
        // Sums of several hundred terms in another order: relative to the largest number.
        const largest = portable[i]!.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        expect(numbers).toBeAllClose(portable[i]!, { rtol: 1e-4, atol: 2e-5 * Math.max(1, largest) });
      }
    });
  });
}
