/**
 * @file What every operation pair is held to, on every engine.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { disposeTree, grads, readHostSync } from '../../src/index.ts';
import type { Forward, Tensor } from '../../src/index.ts';
import { oracleDifferences, sampleTensor } from '../../src/testing/index.ts';
import type { Matrix, Tolerance } from '../../src/testing/index.ts';
import { withPortableBodies } from './portable-bodies.ts';

/** One operation with inputs to try it on. */
export interface PairCase<S> {
  /** Differentiable inputs; the suite frees them. */
  readonly inputs: Tensor[];
  readonly forward: (inputs: Tensor[]) => Forward<Tensor, S>;
  readonly backward: (saved: S, dy: Tensor) => Tensor[];
  /** The same as one differentiable function; absent when there is none. */
  readonly tape?: (inputs: Tensor[]) => Tensor;
  /** Double-precision loops from flat inputs to the flat value. */
  readonly oracle: (inputs: readonly (readonly number[])[]) => readonly number[];
}

/** How a pair is tried. */
export interface PairOptions<Z> {
  /** Random sizes. */
  readonly sizes: fc.Arbitrary<Z>;
  readonly tolerance?: Tolerance;
}

const runs = { numRuns: 12, seed: 20_260 };

/** Tests of one pair over random sizes. */
export function describePair<Z, S>(
  title: string,
  { sizes, tolerance = { rtol: 2e-4, atol: 2e-5 } }: PairOptions<Z>,
  makeCase: (sizes: Z) => PairCase<S>,
): void {
  const each = (body: (one: PairCase<S>) => void): void => {
    fc.assert(
      fc.property(sizes, (size) => {
        const one = makeCase(size);
        try {
          body(one);
        } finally {
          disposeTree(one.inputs);
        }
      }),
      runs,
    );
  };
  describe(title, () => {
    it('equals the loop oracle', () => {
      each((one) => {
        const { value, saved } = one.forward(one.inputs);
        expect(value).toBeAllClose(one.oracle(one.inputs.map(list)), tolerance);
        disposeTree([value, saved]);
      });
    });

    it('has the gradients of the oracle, by central differences', () => {
      each((one) => {
        const { value, saved } = one.forward(one.inputs);
        const dy = sampleTensor(value.shape, 'dy');
        const gradients = one.backward(saved, dy);
        const expected = oracleDifferences(one.oracle, one.inputs.map(list), list(dy));
        expect(gradients).toHaveLength(expected.length);
        for (const [i, gradient] of gradients.entries()) {
          expect(gradient).toHaveShape(one.inputs[i]!.shape);
          expect(gradient).toBeAllClose(expected[i]!, tolerance);
        }
        disposeTree([value, saved, dy, gradients]);
      });
    });

    it('never writes an input, a saved tensor or an incoming gradient', () => {
      each((one) => {
        const before = one.inputs.map(list);
        const { value, saved } = one.forward(one.inputs);
        const dy = sampleTensor(value.shape, 'dy');
        const dyBefore = list(dy);
        const valueBefore = list(value);
        const first = one.backward(saved, dy);
        const second = one.backward(saved, dy);
        expect(second.map(list)).toEqual(first.map(list));
        expect(one.inputs.map(list)).toEqual(before);
        expect(list(dy)).toEqual(dyBefore);
        expect(list(value)).toEqual(valueBefore);
        disposeTree([value, saved, dy, first, second]);
      });
    });

    it('has a portable body that equals the one that runs', () => {
      each((one) => {
        const run = (): number[][] => {
          const { value, saved } = one.forward(one.inputs);
          const dy = sampleTensor(value.shape, 'dy');
          const gradients = one.backward(saved, dy);
          const numbers = [value, ...gradients].map(list);
          disposeTree([value, saved, dy, gradients]);
          return numbers;
        };
        const own = run();
        const portable = withPortableBodies(run);
        for (const [i, numbers] of own.entries()) expect(numbers).toBeAllClose(portable[i]!, tolerance);
      });
    });

    it('gives the same on the tape', () => {
      each((one) => {
        const { tape } = one;
        if (tape === undefined) return;
        const { value, saved } = one.forward(one.inputs);
        const dy = sampleTensor(value.shape, 'dy');
        const gradients = one.backward(saved, dy);
        const onTape = grads((...inputs) => tape(inputs as Tensor[]))(one.inputs, dy);
        for (const [i, gradient] of gradients.entries()) {
          expect(onTape[i]!).toBeAllClose(list(gradient), { rtol: 1e-5, atol: 1e-6 });
        }
        disposeTree([value, saved, dy, gradients, onTape]);
      });
    });
  });
}

/** A tensor's numbers. */
export function list(tensor: Tensor): number[] {
  return Array.from(readHostSync(tensor));
}

/** Flat numbers as rows. */
export function rowsOf(flat: readonly number[], columns: number): Matrix {
  return Array.from({ length: flat.length / columns }, (_, r) => flat.slice(r * columns, (r + 1) * columns));
}
