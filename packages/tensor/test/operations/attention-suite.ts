/** @file Attention, per-head norm and rotary positions. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  attention,
  attentionBackward,
  attentionForward,
  disposeTree,
  headNormRope,
  headNormRopeBackward,
  headNormRopeForward,
  rotaryTable,
} from '../../src/index.ts';
import type { HeadNormRopeOptions, Tensor1D, Tensor2D } from '../../src/index.ts';
import {
  referenceAttention,
  referenceHeadNormRope,
  sampleMatrix,
  sampleVector,
} from '../../src/testing/index.ts';
import { describePair, list, rowsOf } from './pair-suite.ts';

const small = fc.integer({ min: 1, max: 4 });

export function describeAttentionPairs(): void {
  const sizes = fc.record({
    batch: fc.integer({ min: 1, max: 3 }),
    sequence: fc.integer({ min: 1, max: 6 }),
    kvHeads: fc.integer({ min: 1, max: 2 }),
    group: fc.integer({ min: 1, max: 3 }),
    headSize: small,
    scale: fc.constantFrom(undefined, 0.3),
  });
  describePair('attention', { sizes }, ({ batch, sequence, kvHeads, group, headSize, scale }) => {
    const heads = kvHeads * group;
    const rows = batch * sequence;
    const [z, y] = [heads * headSize, kvHeads * headSize];
    const options = { batch, heads, kvHeads, ...(scale === undefined ? {} : { scale }) };
    return {
      inputs: [sampleMatrix(rows, z, 'q'), sampleMatrix(rows, y, 'k'), sampleMatrix(rows, y, 'v')],
      forward: (inputs) => attentionForward(...(inputs as [Tensor2D, Tensor2D, Tensor2D]), options),
      backward: (saved, dy) => {
        const { dq, dk, dv } = attentionBackward(saved, dy as Tensor2D);
        return [dq, dk, dv];
      },
      tape: (inputs) => attention(...(inputs as [Tensor2D, Tensor2D, Tensor2D]), options),
      oracle: ([q, k, v]) =>
        referenceAttention(rowsOf(q!, z), rowsOf(k!, y), rowsOf(v!, y), {
          batch,
          heads,
          kvHeads,
          scale: scale ?? 1 / Math.sqrt(headSize),
        }).flat(),
    };
  });
  describeHeadNormRope();
}

function describeHeadNormRope(): void {
  const theta = 100;
  const sizes = fc.record({
    rows: fc.integer({ min: 1, max: 6 }),
    heads: fc.integer({ min: 1, max: 3 }),
    half: small,
    norm: fc.boolean(),
    turn: fc.boolean(),
  });
  describePair('headNormRope', { sizes }, ({ rows, heads, half, norm, turn }) => {
    const headSize = 2 * half;
    const z = heads * headSize;
    const positions = Int32Array.from({ length: rows }, (_, t) => (t * 5) % 17);
    const withTable = <T>(body: (options: HeadNormRopeOptions) => T): T => {
      const table = rotaryTable({ headSize, positions: 17, theta });
      const result = body({ heads, epsilon: 1e-3, ...(turn ? { positions, table } : {}) });
      disposeTree(table);
      return result;
    };
    return {
      inputs: [sampleMatrix(rows, z, 'x'), ...(norm ? [sampleVector(headSize, 'w')] : [])],
      forward: ([x, w]) =>
        withTable((options) =>
          headNormRopeForward(x as Tensor2D, (w as Tensor1D | undefined) ?? null, options),
        ),
      backward: (saved, dy) => {
        const { dx, dweight } = headNormRopeBackward(saved, dy as Tensor2D);
        return dweight === undefined ? [dx] : [dx, dweight];
      },
      tape: ([x, w]) =>
        withTable((options) => headNormRope(x as Tensor2D, (w as Tensor1D | undefined) ?? null, options)),
      oracle: ([x, w]) =>
        referenceHeadNormRope(rowsOf(x!, z), norm ? w! : null, {
          heads,
          epsilon: 1e-3,
          positions,
          theta: turn ? theta : null,
        }).flat(),
    };
  });

  describe('headNormRope, partly turned', () => {
    it('turns the first components of a head and leaves the rest', () => {
      const x = sampleMatrix(3, 12, 'x');
      const table = rotaryTable({ headSize: 4, positions: 9, theta });
      const positions = Int32Array.of(0, 8, 3);
      const { value, saved } = headNormRopeForward(x, null, { heads: 2, positions, table });
      const dy = sampleMatrix(3, 12, 'dy');
      const { dx } = headNormRopeBackward(saved, dy);
      const expected = rowsOf(list(x), 12).map((row, t) =>
        [0, 6].flatMap((start) => [
          ...referenceHeadNormRope([row.slice(start, start + 4)], null, {
            heads: 1,
            epsilon: 0,
            positions: [positions[t]!],
            theta,
          })[0]!,
          ...row.slice(start + 4, start + 6),
        ]),
      );
      expect(value).toBeAllClose(expected);
      const dot = (a: number[], b: number[]): number => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
      expect(dot(list(dx), list(x))).toBeCloseTo(dot(list(dy), list(value)), 4);
      disposeTree([x, table, value, saved, dy, dx]);
    });
  });

  describe('rotaryTable', () => {
    it('takes given frequencies and an attention factor', () => {
      const table = rotaryTable({
        headSize: 4,
        positions: 3,
        inverseFrequencies: [0.5, 0.25],
        attentionFactor: 2,
      });
      expect(table.cos).toBeAllClose(
        [0, 1, 2].flatMap((p) => [2 * Math.cos(p * 0.5), 2 * Math.cos(p * 0.25)]),
      );
      expect(table.sin).toBeAllClose(
        [0, 1, 2].flatMap((p) => [2 * Math.sin(p * 0.5), 2 * Math.sin(p * 0.25)]),
      );
      disposeTree(table);
    });

    it('rejects an odd head size and a wrong number of frequencies', () => {
      expect(() => rotaryTable({ headSize: 5, positions: 3 })).toThrow(/even.*got 5/);
      expect(() => rotaryTable({ headSize: 4, positions: 3, inverseFrequencies: [1] })).toThrow(
        /must be 2, got 1/,
      );
    });
  });
}
