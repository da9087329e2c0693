/** @file Every operation names the wrong size, with both numbers, before it computes. */
import { describe, expect, it } from 'vitest';

import { isMoebiusError } from '@moebius/core';

import {
  attentionForward,
  combineRowsForward,
  countTensors,
  disposeTree,
  embeddingForward,
  expertFeedForwardForward,
  feedForwardForward,
  gatedFeedForwardForward,
  gatherRowsForward,
  gatherScoresForward,
  groupedMatmulForward,
  headNormRopeForward,
  linearAddForward,
  linearBackward,
  linearForward,
  linearsForward,
  planRows,
  rmsNormBackward,
  rmsNormForward,
  softmaxCrossEntropyForward,
  tensor1d,
} from '../../src/index.ts';
import type { Tensor1D, Tensor2D } from '../../src/index.ts';
import { sampleMatrix, sampleVector } from '../../src/testing/index.ts';

/** Made inside each test, because the engine starts before the tests and not before this file. */
interface Tensors {
  readonly m23: Tensor2D;
  readonly m24: Tensor2D;
  readonly m53: Tensor2D;
  readonly m33: Tensor2D;
  readonly v2: Tensor1D;
  readonly v3: Tensor1D;
}

const plan = planRows([[0], [1]], 2);

const mistakes: readonly [string, RegExp, (t: Tensors) => unknown][] = [
  ['linear x', /must be 3, got 4/, (t) => linearForward(t.m24, t.m53)],
  ['linear bias', /must be 5, got 3/, (t) => linearForward(t.m23, t.m53, t.v3)],
  ['linear dy', /must be 5, got 3/, (t) => linearBackward({ x: t.m23, weight: t.m53, biased: false }, t.m23)],
  ['linearAdd residual', /must be 5, got 3/, (t) => linearAddForward(t.m23, t.m53, t.m23)],
  ['linears weight', /weight 1.*must be 3, got 4/, (t) => linearsForward(t.m23, [t.m53, t.m24])],
  ['rmsNorm weight rank', /rank 1.*rank 2/, (t) => rmsNormForward(t.m23, t.m23 as unknown as Tensor1D)],
  ['rmsNorm x', /must be 2, got 3/, (t) => rmsNormForward(t.m23, t.v2)],
  ['rmsNorm dy', /must be 3, got 4/, (t) => rmsNormBackward({ x: t.m23, weight: t.v3, inv: t.v2 }, t.m24)],
  ['headNormRope heads', /got 3 by 2/, (t) => headNormRopeForward(t.m23, null, { heads: 2 })],
  ['headNormRope weight', /must be 4, got 3/, (t) => headNormRopeForward(t.m24, t.v3, { heads: 1 })],
  [
    'attention k',
    /must be 3, got 4/,
    (t) => attentionForward(t.m23, t.m24, t.m23, { batch: 1, heads: 1, kvHeads: 1 }),
  ],
  [
    'attention batch',
    /got 2 by 3/,
    (t) => attentionForward(t.m23, t.m23, t.m23, { batch: 3, heads: 1, kvHeads: 1 }),
  ],
  [
    'attention groups',
    /got 3 by 2/,
    (t) => attentionForward(t.m23, t.m23, t.m23, { batch: 1, heads: 3, kvHeads: 2 }),
  ],
  [
    'gated down',
    /must be 5, got 3/,
    (t) => gatedFeedForwardForward(t.m23, { gate: t.m53, up: t.m53, down: t.m33 }),
  ],
  ['plain up', /must be 3, got 4/, (t) => feedForwardForward(t.m23, { up: t.m24, down: t.m53 })],
  ['gatherRows x', /must be 2, got 5/, (t) => gatherRowsForward(t.m53, plan)],
  ['combineRows weights', /must be 2, got 3/, (t) => combineRowsForward(t.m23, t.v3, plan)],
  ['gatherScores scores', /must be 2, got 3/, (t) => gatherScoresForward(t.m23, plan)],
  ['plan', /offsets length: must be 4, got 3/, (t) => gatherRowsForward(t.m23, { ...plan, experts: 3 })],
  [
    'groupedMatmul offsets',
    /must be 5, got 2/,
    (t) => groupedMatmulForward(t.m53, [t.m53], Int32Array.of(0, 2)),
  ],
  [
    'cross-entropy targets',
    /must be 2, got 3/,
    (t) => softmaxCrossEntropyForward(t.m23, Int32Array.of(0, 1, 2)),
  ],
  ['float index', /int32, got float32/, (t) => embeddingForward(t.m23, t.v2)],
  [
    'expert weights',
    /expert 1 up.*must be 5, got 3/,
    (t) =>
      expertFeedForwardForward(t.m23, t.v2, {
        plan,
        experts: [
          { gate: t.m53, up: t.m53, down: t.m53 },
          { gate: t.m53, up: t.m33, down: t.m53 },
        ],
      }),
  ],
];

export function describeShapes(): void {
  describe('a wrong shape', () => {
    it.each(mistakes)('%s is named with both numbers', (_title, message, run) => {
      const tensors: Tensors = {
        m23: sampleMatrix(2, 3, 1),
        m24: sampleMatrix(2, 4, 2),
        m53: sampleMatrix(5, 3, 3),
        m33: sampleMatrix(3, 3, 4),
        v2: sampleVector(2, 5),
        v3: tensor1d([1, 2, 3]),
      };
      const live = countTensors();
      const caught = catchError(() => run(tensors));
      expect(isMoebiusError(caught, 'shape')).toBe(true);
      expect(String(caught)).toMatch(message);
      expect(countTensors()).toBe(live);
      disposeTree(tensors);
    });
  });
}

function catchError(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}
