/** @file Whole sub-layers for inference: the fused kernels, the composed bodies, and attention over whole sequences agree. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  attentionForward,
  cachedAttentionBlock,
  createKvCache,
  disposeTree,
  headNormRopeForward,
  linearAddForward,
  linearsForward,
  normLinears,
  rmsNormForward,
  rotaryTable,
  routedBlock,
  runOp,
  tensor2d,
} from '../../src/index.ts';
import type { AttentionBlockWeights, Tensor2D } from '../../src/index.ts';
import {
  referenceGatedFeedForward,
  referenceLinear,
  referenceRmsNorm,
  referenceTopK,
  sampleMatrix,
  sampleVector,
  toList,
  toMatrix,
} from '../../src/testing/index.ts';
import { withPortableBodies } from './portable-bodies.ts';

const close = { rtol: 3e-4, atol: 3e-5 };
const [d, heads, kvHeads, headSize] = [7, 4, 2, 6];
const epsilon = 1e-4;

function attentionWeights(norms: 'none' | 'head' | 'row'): AttentionBlockWeights {
  const [z, y] = [heads * headSize, kvHeads * headSize];
  const width = { none: [0, 0], head: [headSize, headSize], row: [z, y] }[norms];
  return {
    norm: norms === 'none' ? null : sampleVector(d, 'norm'),
    query: sampleMatrix(z, d, 'q', 0.5),
    key: sampleMatrix(y, d, 'k', 0.5),
    value: sampleMatrix(y, d, 'v', 0.5),
    output: sampleMatrix(d, z, 'o', 0.5),
    queryNorm: norms === 'none' ? null : sampleVector(width[0]!, 'qn'),
    keyNorm: norms === 'none' ? null : sampleVector(width[1]!, 'kn'),
  };
}

/** The block over whole sequences, by the pairs that training uses. */
function wholeBlock(x: Tensor2D, weights: AttentionBlockWeights, batch: number, norms: string): number[] {
  const sequence = x.shape[0] / batch;
  const table = rotaryTable({ headSize, positions: 40 });
  const positions = Int32Array.from({ length: x.shape[0] }, (_, t) => t % sequence);
  const hidden = weights.norm === null ? x : rmsNormForward(x, weights.norm, { epsilon }).value;
  const projected = linearsForward(hidden, [weights.query, weights.key, weights.value]);
  const [q, k, v] = projected.value as [Tensor2D, Tensor2D, Tensor2D];
  const turned = [
    [q, weights.queryNorm, heads],
    [k, weights.keyNorm, kvHeads],
  ].map(([rows, norm, count]) => {
    const options = { heads: count as number, epsilon, positions, table };
    if (norms !== 'row') return headNormRopeForward(rows as Tensor2D, norm as never, options).value;
    const normed = rmsNormForward(rows as Tensor2D, norm as never, { epsilon }).value;
    return headNormRopeForward(normed, null, options).value;
  }) as [Tensor2D, Tensor2D];
  const mixed = attentionForward(turned[0], turned[1], v, { batch, heads, kvHeads });
  return toList(linearAddForward(mixed.value, weights.output, x).value);
}

export function describeBlocks(): void {
  describe('cachedAttentionBlock', () => {
    it.each(['none', 'head', 'row'] as const)(
      'in steps equals the layer over whole sequences (norms: %s)',
      (norms) => {
        fc.assert(
          fc.property(
            fc.integer({ min: 1, max: 3 }),
            fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 4 }),
            (batch, steps) => {
              const weights = attentionWeights(norms);
              const sequence = steps.reduce((a, b) => a + b);
              const x = sampleMatrix(batch * sequence, d, 'x');
              const expected = rows(
                scoped(() => wholeBlock(x, weights, batch, norms)),
                d,
              );
              const inSteps = (): void => {
                const cache = createKvCache({ layers: 1, batch, positions: 40, kvHeads, headSize });
                const table = rotaryTable({ headSize, positions: 40 });
                let begin = 0;
                for (const count of steps) {
                  const pick = <T>(all: T[]): T[] =>
                    Array.from({ length: batch }, (_, b) =>
                      all.slice(b * sequence + begin, b * sequence + begin + count),
                    ).flat();
                  const fresh = tensor2d(pick(toMatrix(x)));
                  const positions = Int32Array.from({ length: batch * count }, (_, t) => begin + (t % count));
                  const options = { cache, layer: 0, heads, epsilon, positions, table };
                  const y = cachedAttentionBlock(fresh, weights, options);
                  expect(y).toBeAllClose(pick(expected), close);
                  begin += count;
                  disposeTree([fresh, y]);
                }
                expect(cache.lengths(0)[0]).toBe(sequence);
                cache.dispose();
                disposeTree(table);
              };
              inSteps();
              withPortableBodies(inSteps);
              disposeTree([weights, x]);
            },
          ),
          { seed: 4, numRuns: 8 },
        );
      },
    );

    it('names a wrong shape, a missing position and a full cache before it touches the cache', () => {
      const weights = attentionWeights('head');
      const cache = createKvCache({ layers: 1, batch: 1, positions: 2, kvHeads, headSize });
      const table = rotaryTable({ headSize, positions: 2 });
      const [x, wide, long] = [sampleMatrix(1, d, 1), sampleMatrix(1, d + 1, 2), sampleMatrix(3, d, 3)];
      const at = { cache, layer: 0, heads };
      expect(() => cachedAttentionBlock(wide!, weights, at)).toThrow(/must be 8, got 7/);
      expect(() => cachedAttentionBlock(x!, weights, { ...at, table })).toThrow(
        /positions length: must be 1, got 0/,
      );
      const positions = Int32Array.of(2);
      expect(() => cachedAttentionBlock(x!, weights, { ...at, table, positions })).toThrow(/\[0, 2\), got 2/);
      expect(() => cachedAttentionBlock(long!, weights, at)).toThrow(/at most 2 positions, got 0 \+ 3/);
      expect([...cache.lengths(0)]).toEqual([0]);
      cache.dispose();
      disposeTree([weights, table, x, wide, long]);
    });
  });
  describeRoutedBlock();

  describe('normLinears', () => {
    it('equals the loops, with and without a norm', () => {
      const x = sampleMatrix(5, d, 'x');
      const norm = sampleVector(d, 'n');
      const weights = [sampleMatrix(3, d, 'a'), sampleMatrix(9, d, 'b')];
      for (const own of [norm, null]) {
        const hidden = own === null ? toMatrix(x) : referenceRmsNorm(toMatrix(x), toList(own), epsilon);
        const outputs = normLinears(x, own, weights, { epsilon });
        for (const [l, y] of outputs.entries()) {
          expect(y).toBeAllClose(referenceLinear(hidden, toMatrix(weights[l]!)), close);
        }
        disposeTree(outputs);
      }
      disposeTree([x, norm, weights]);
    });
  });
}

function describeRoutedBlock(): void {
  describe('routedBlock', () => {
    it('equals the loops, fused and composed', () => {
      const sizes = fc.record({
        t: fc.integer({ min: 1, max: 9 }),
        experts: fc.integer({ min: 1, max: 6 }),
        pick: fc.nat(),
        f: fc.integer({ min: 1, max: 9 }),
        normalize: fc.boolean(),
        norm: fc.boolean(),
      });
      fc.assert(
        fc.property(sizes, ({ t, experts, pick, f, normalize, norm }) => {
          const topK = 1 + (pick % experts);
          const x = sampleMatrix(t, d, 'x');
          const weights = {
            norm: norm ? sampleVector(d, 'n') : null,
            router: sampleMatrix(experts, d, 'r'),
            experts: Array.from({ length: experts }, (_, e) => ({
              gate: sampleMatrix(f, d, `g${e}`),
              up: sampleMatrix(f, d, `u${e}`),
              down: sampleMatrix(f, d, `d${e}`),
            })),
          };
          const hidden =
            weights.norm === null
              ? toMatrix(x)
              : referenceRmsNorm(toMatrix(x), toList(weights.norm), epsilon);
          const probabilities = referenceLinear(hidden, toMatrix(weights.router)).map((row) => {
            const powers = row.map((z) => Math.exp(z));
            const total = powers.reduce((a, b) => a + b);
            return powers.map((power) => power / total);
          });
          const best = referenceTopK(probabilities, topK);
          const chosen = best.values.map((row) => {
            const total = normalize ? row.reduce((a, b) => a + b) : 1;
            return row.map((w) => (2 * w) / total);
          });
          const expected = toMatrix(x).map((row, token) => {
            const out = [...row];
            for (const [j, e] of best.ids[token]!.entries()) {
              const { gate, up, down } = weights.experts[e]!;
              const own = { gate: toMatrix(gate), up: toMatrix(up), down: toMatrix(down) };
              const [y] = referenceGatedFeedForward([hidden[token]!], own, 'silu');
              for (const [i, value] of y!.entries()) out[i]! += chosen[token]![j]! * value;
            }
            return out;
          });
          const run = (): void => {
            const result = routedBlock(x, weights, { topK, normalize, scale: 2, epsilon });
            expect(toList(result.ids)).toEqual(best.ids.flat());
            expect(result.weights).toBeAllClose(chosen, close);
            expect(result.y).toBeAllClose(expected, close);
            disposeTree(result);
          };
          run();
          withPortableBodies(run);
          disposeTree([x, weights]);
        }),
        { seed: 6, numRuns: 20 },
      );
    });
  });
}

function scoped<T>(body: () => T): T {
  return runOp('test', body);
}

function rows(flat: number[], columns: number): number[][] {
  return Array.from({ length: flat.length / columns }, (_, r) => flat.slice(r * columns, (r + 1) * columns));
}
