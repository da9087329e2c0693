import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { parseGateConfig } from './gate-config.ts';
import type { GateConfig } from './gate-config.ts';
import { planTopK } from './plan-top-k.ts';
import { chosenExperts, selectExperts } from './select-experts.kernel.ts';

/** The definition: score, bias, groups, then a stable sort. */
function naiveSelection(
  logits: readonly number[],
  config: GateConfig,
  bias: readonly number[] | undefined,
): number[] {
  const exps = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const sum = exps.reduce((a, b) => a + b, 0);
  const scores = logits.map((logit, e) => {
    if (config.scoreAfterTopK || config.score === 'identity') return logit;
    return config.score === 'softmax' ? exps[e]! / sum : 1 / (1 + Math.exp(-logit));
  });
  const c = scores.map((score, e) => score + (bias?.[e] ?? 0));
  const best = (values: readonly number[], k: number): number[] =>
    [...values.keys()].toSorted((a, b) => values[b]! - values[a]! || a - b).slice(0, k);
  const { groups } = config;
  if (groups === null) return best(c, config.topK);
  const size = c.length / groups.count;
  const groupScores = Array.from({ length: groups.count }, (_, g) => {
    const sorted = c.slice(g * size, (g + 1) * size).toSorted((a, b) => b - a);
    return groups.score === 'max' ? sorted[0]! : sorted[0]! + sorted[1]!;
  });
  const kept = best(groupScores, groups.keep);
  const fill = groups.fill === 'zero' ? 0 : -1e300;
  return best(
    c.map((value, e) => (kept.includes(Math.floor(e / size)) ? value : fill)),
    config.topK,
  );
}

const coarse = fc.integer({ min: -3, max: 3 });

describe('selectExperts', () => {
  it('equals a stable sort for every setting, with many ties', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(coarse, { minLength: 8, maxLength: 8 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom('softmax', 'sigmoid', 'identity'),
        fc.integer({ min: 1, max: 4 }),
        fc.option(fc.array(coarse, { minLength: 8, maxLength: 8 }), { nil: undefined }),
        fc.constantFrom(
          null,
          { count: 4, keep: 2, score: 'max', fill: 'zero' },
          { count: 2, keep: 1, score: 'top2-sum', fill: 'zero' },
          { count: 4, keep: 2, score: 'top2-sum', fill: 'negative-infinity' },
        ),
        fc.boolean(),
        (rows, score, topK, bias, groups, after) => {
          const scoreAfterTopK = after && score !== 'identity';
          const config = parseGateConfig({
            experts: 8,
            topK,
            score,
            groups,
            scoreAfterTopK,
            selectionBias: bias !== undefined,
          });
          const { ids, badToken } = selectExperts(
            {
              logits: Float32Array.from(rows.flat()),
              ...(bias === undefined ? {} : { selectionBias: bias }),
            },
            config,
          );
          expect(badToken).toBe(-1);
          expect([...ids]).toEqual(rows.flatMap((row) => naiveSelection(row, config, bias)));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('breaks ties by the lowest index', () => {
    const config = parseGateConfig({ experts: 5, topK: 3 });
    expect([...selectExperts({ logits: [1, 2, 2, 2, 1] }, config).ids]).toEqual([1, 2, 3]);
    expect([...selectExperts({ logits: [0, 0, 0, 0, 0] }, config).ids]).toEqual([0, 1, 2]);
  });

  it('does not let rounding of saturated scores decide', () => {
    const config = parseGateConfig({ experts: 3, topK: 1, score: 'sigmoid' });
    expect([...selectExperts({ logits: [30, 40, 20] }, config).ids]).toEqual([1]);
  });

  it('finds the first token that cannot be routed, and skips masked ones', () => {
    const config = parseGateConfig({ experts: 3, topK: 2 });
    const rows = (...row: number[]): Float32Array => Float32Array.of(0, 1, 2, ...row, 1, 1, 1);
    for (const bad of [
      [0, NaN, 1],
      [0, Infinity, 1],
      [Infinity, -Infinity, 0],
      [-Infinity, -Infinity, -Infinity],
    ]) {
      expect(selectExperts({ logits: rows(...bad) }, config).badToken).toBe(1);
      expect(selectExperts({ logits: rows(...bad), mask: Uint8Array.of(1, 0, 1) }, config).badToken).toBe(-1);
    }
    expect(selectExperts({ logits: rows(-Infinity, 3, -Infinity) }, config)).toEqual({
      ids: Int32Array.of(2, 1, 1, 0, 0, 1),
      badToken: -1,
    });
  });
});

describe('chosenExperts', () => {
  it('marks the pairs of a plan, and every expert of a token without one', () => {
    const mask = Uint8Array.of(1, 0, 1);
    const plan = planTopK(Int32Array.of(2, 0, 0, 0, 1, 2), { tokens: 3, experts: 3, topK: 2, mask });
    expect([...chosenExperts(plan)]).toEqual([1, 0, 1, 1, 1, 1, 0, 1, 1]);
  });
});
