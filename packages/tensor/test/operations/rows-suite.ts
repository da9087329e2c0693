/** @file Routed rows, experts, grouped products, embedding, losses, top-k. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  combineRows,
  combineRowsBackward,
  combineRowsForward,
  disposeTree,
  embedding,
  embeddingBackward,
  embeddingForward,
  expertFeedForward,
  expertFeedForwardBackward,
  expertFeedForwardForward,
  gatherRows,
  gatherRowsBackward,
  gatherRowsForward,
  gatherScores,
  gatherScoresBackward,
  gatherScoresForward,
  groupedMatmul,
  groupedMatmulBackward,
  groupedMatmulForward,
  planRows,
} from '../../src/index.ts';
import type { GatedWeights, RowPlan, Tensor, Tensor1D, Tensor2D } from '../../src/index.ts';
import {
  referenceCombine,
  referenceExpertFeedForward,
  referenceGroupedMatmul,
  sampleMatrix,
  sampleVector,
} from '../../src/testing/index.ts';
import { activations } from './dense-suite.ts';
import { describePair, list, rowsOf } from './pair-suite.ts';

const width = fc.integer({ min: 1, max: 9 });

/** Plans of every kind: exact top-k, drops, tokens without experts, experts without tokens. */
export const plans: fc.Arbitrary<RowPlan> = fc
  .record({
    tokens: fc.integer({ min: 1, max: 8 }),
    experts: fc.integer({ min: 1, max: 5 }),
    exact: fc.boolean(),
  })
  .chain(({ tokens, experts, exact }) => {
    const all = Array.from({ length: experts }, (_, e) => e);
    const chosen = exact
      ? fc.subarray(all, { minLength: Math.ceil(experts / 2), maxLength: Math.ceil(experts / 2) })
      : fc.subarray(all);
    return fc
      .array(chosen, { minLength: tokens, maxLength: tokens })
      .map((lists) => planRows(lists, experts));
  });

export function describeRows(): void {
  const sizes = fc.record({ plan: plans, d: width });
  describePair('gatherRows', { sizes }, ({ plan, d }) => ({
    inputs: [sampleMatrix(plan.tokens, d, 'x')],
    forward: ([x]) => gatherRowsForward(x as Tensor2D, plan),
    backward: (saved, dy) => [gatherRowsBackward(saved, dy as Tensor2D).dx],
    tape: ([x]) => gatherRows(x as Tensor2D, plan),
    oracle: ([x]) => Array.from(plan.token, (t) => x!.slice(t * d, (t + 1) * d)).flat(),
  }));

  describePair('combineRows', { sizes }, ({ plan, d }) => ({
    inputs: [sampleMatrix(plan.token.length, d, 'y'), sampleVector(plan.token.length, 'w')],
    forward: ([y, w]) => combineRowsForward(y as Tensor2D, w as Tensor1D, plan),
    backward: (saved, dout) => {
      const { dy, dweights } = combineRowsBackward(saved, dout as Tensor2D);
      return [dy, dweights];
    },
    tape: ([y, w]) => combineRows(y as Tensor2D, w as Tensor1D, plan),
    oracle: ([y, w]) =>
      plan.token.length === 0
        ? Array.from({ length: plan.tokens * d }, () => 0)
        : referenceCombine(rowsOf(y!, d), w!, plan).flat(),
  }));

  describePair('gatherScores', { sizes }, ({ plan }) => ({
    inputs: [sampleMatrix(plan.tokens, plan.experts, 's')],
    forward: ([s]) => gatherScoresForward(s as Tensor2D, plan),
    backward: (saved, dy) => [gatherScoresBackward(saved, dy as Tensor1D).dscores],
    tape: ([s]) => gatherScores(s as Tensor2D, plan),
    oracle: ([s]) => Array.from(plan.source, (source) => s![source]!),
  }));
  describeExperts();
  describeGrouped();
  describeEmbedding();
}

function describeExperts(): void {
  const sizes = fc.record({ plan: plans, d: width, f: width, activation: fc.constantFrom(...activations) });
  describePair('expertFeedForward', { sizes }, ({ plan, d, f, activation }) => {
    const { experts } = plan;
    const weightsOf = (flat: Tensor[]): GatedWeights[] =>
      Array.from({ length: experts }, (_, e) => ({
        gate: flat[e] as Tensor2D,
        up: flat[experts + e] as Tensor2D,
        down: flat[2 * experts + e] as Tensor2D,
      }));
    return {
      inputs: [
        sampleMatrix(plan.tokens, d, 'x'),
        sampleVector(plan.token.length, 'w'),
        ...Array.from({ length: 3 * experts }, (_, i) => sampleMatrix(f, d, i)),
      ],
      forward: ([x, w, ...flat]) =>
        expertFeedForwardForward(x as Tensor2D, w as Tensor1D, {
          plan,
          activation,
          experts: weightsOf(flat),
        }),
      backward: (saved, dy) => {
        const { dx, dweights, experts: own } = expertFeedForwardBackward(saved, dy as Tensor2D);
        return [
          dx,
          dweights,
          ...own.map(({ gate }) => gate),
          ...own.map(({ up }) => up),
          ...own.map(({ down }) => down),
        ];
      },
      tape: ([x, w, ...flat]) =>
        expertFeedForward(x as Tensor2D, w as Tensor1D, { plan, activation, experts: weightsOf(flat) }),
      oracle: ([x, w, ...flat]) => {
        const own = Array.from({ length: experts }, (_, e) => ({
          gate: rowsOf(flat[e]!, d),
          up: rowsOf(flat[experts + e]!, d),
          down: rowsOf(flat[2 * experts + e]!, d),
        }));
        return referenceExpertFeedForward(rowsOf(x!, d), w!, own, { plan, activation }).flat();
      },
    };
  });
}

function describeGrouped(): void {
  const sizes = fc.record({
    counts: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 5 }),
    i: width,
    o: width,
  });
  describePair('groupedMatmul', { sizes }, ({ counts, i, o }) => {
    const offsets = Int32Array.from([
      0,
      ...counts.map((_, e) => counts.slice(0, e + 1).reduce((a, b) => a + b)),
    ]);
    const rows = offsets.at(-1)!;
    return {
      inputs: [sampleMatrix(rows, i, 'x'), ...counts.map((_, e) => sampleMatrix(o, i, e))],
      forward: ([x, ...w]) => groupedMatmulForward(x as Tensor2D, w as Tensor2D[], offsets),
      backward: (saved, dy) => {
        const { dx, dweights } = groupedMatmulBackward(saved, dy as Tensor2D);
        return [dx, ...dweights];
      },
      tape: ([x, ...w]) => groupedMatmul(x as Tensor2D, w as Tensor2D[], offsets),
      oracle: ([x, ...w]) =>
        referenceGroupedMatmul(
          rowsOf(x!, i),
          w.map((weight) => rowsOf(weight, i)),
          offsets,
        ).flat(),
    };
  });
}

function describeEmbedding(): void {
  const sizes = fc.record({ v: width, d: width, ids: fc.array(fc.nat(), { minLength: 1, maxLength: 12 }) });
  describePair('embedding', { sizes }, ({ v, d, ids }) => {
    const host = Int32Array.from(ids, (id) => id % v);
    return {
      inputs: [sampleMatrix(v, d, 'table')],
      forward: ([table]) => embeddingForward(table as Tensor2D, host),
      backward: (saved, dy) => [embeddingBackward(saved, dy as Tensor2D).dtable],
      tape: ([table]) => embedding(table as Tensor2D, host),
      oracle: ([table]) => Array.from(host, (id) => table!.slice(id * d, (id + 1) * d)).flat(),
    };
  });

  describe('indices', () => {
    it('are copied: writing the caller’s array afterwards changes nothing', () => {
      const table = sampleMatrix(5, 3, 'table');
      const ids = Int32Array.of(1, 4, 1);
      const { value, saved } = embeddingForward(table, ids);
      const before = list(value);
      const dy = sampleMatrix(3, 3, 'dy');
      const first = embeddingBackward(saved, dy);
      ids.fill(0);
      const second = embeddingBackward(saved, dy);
      expect(list(value)).toEqual(before);
      expect(list(second.dtable)).toEqual(list(first.dtable));
      disposeTree([table, value, saved, dy, first, second]);
    });

    it('outside the table are an error that holds both numbers', () => {
      const table = sampleMatrix(5, 3, 'table');
      expect(() => embeddingForward(table, Int32Array.of(0, 5))).toThrow(/ids\[1\].*\[0, 5\).*got 5/);
      table.dispose();
    });
  });
}
