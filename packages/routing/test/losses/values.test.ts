import { createEngine } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { builtInLosses, createLoss } from '../../src/losses/index.ts';
import { two, valueOf } from './given-layer.ts';
import type { Given } from './given-layer.ts';
import { lossCases } from './loss-cases.ts';
import { checkLeaks } from '../leak-check.ts';

beforeAll(async () => {
  await createEngine();
});

checkLeaks();

/** Four tokens that prefer nothing, with choices that go round: every count is the same. */
const uniform: Given = {
  scores: Array.from({ length: 4 }, () => [0.25, 0.25, 0.25, 0.25]),
  chosen: [
    [0, 1],
    [1, 2],
    [2, 3],
    [3, 0],
  ],
};

describe('at uniform routing', () => {
  const log4 = Math.log(4);
  it.each<[keyof typeof builtInLosses, object, number, Partial<Given>?]>([
    ['load-balance', {}, 2],
    ['load-balance', { divideByTopK: true }, 1],
    ['load-balance', { pooling: 'pooled', divideByTopK: true }, 1],
    ['load-balance', { pooling: 'per-sequence', sequenceTokens: 4, divideByTopK: true }, 1],
    ['first-choice-balance', {}, 1],
    ['device-balance', { devices: 2 }, 1],
    ['device-balance', { devices: 4 }, 1],
    ['communication-balance', { devices: 4, maximumDevices: 2 }, 1],
    [
      'null-expert-balance',
      { nulls: 4, choices: 4 },
      1,
      { scores: uniform.scores.map((row) => row.map((p) => p / 2)) },
    ],
    [
      'localized-balance',
      { expertGroups: [0, 0, 1, 1], sequenceTokens: 2, delta: 0.2 },
      0.04,
      { domain: Int32Array.of(0, 0, 1, 1) },
    ],
    [
      'localized-balance',
      { expertGroups: [0, 0, 1, 1], sequenceTokens: 2, delta: 0 },
      0,
      { domain: Int32Array.of(0, 0, 1, 1) },
    ],
    ['importance', {}, 0],
    ['importance', { of: 'renormalised' }, 0],
    ['load-estimate', {}, 0],
    ['load-estimate', { form: 'shazeer' }, 0],
    ['mutual-information', {}, 0],
    ['sparsity', {}, 2, { score: 'relu' as never, scores: uniform.scores.map((row) => row.map(() => 0.5)) }],
    ['z-loss', {}, log4 ** 2, { logits: uniform.scores.map((row) => row.map(() => 0)) }],
    ['entropy', {}, log4],
    ['confidence', {}, 0.75],
    ['expert-count', {}, 2, { score: 'sigmoid', scores: uniform.scores.map((row) => row.map(() => 0.5)) }],
    [
      'orthogonality',
      {},
      0,
      {
        weight: [
          [1, 0, 0, 0],
          [0, 1, 0, 0],
          [0, 0, 1, 0],
          [0, 0, 0, 1],
        ],
      },
    ],
    [
      'orthogonality',
      { simplicity: 3 },
      3,
      {
        weight: [
          [1, 0, 0, 0],
          [0, 1, 0, 0],
          [0, 0, 1, 0],
          [0, 0, 0, 1],
        ],
      },
    ],
    [
      'orthogonality',
      {},
      2,
      {
        weight: [
          [0, 0],
          [0, 0],
          [0, 0],
          [0, 0],
        ],
      },
    ],
  ])('%s %j is %f', (name, options, expected, changes = {}) => {
    expect(valueOf(createLoss(name, options), { ...uniform, ...changes })).toBeCloseTo(expected, 5);
  });

  it('every loss is in that table or the next', () => {
    expect(new Set(lossCases.map(({ name }) => name)).size).toBe(Object.keys(builtInLosses).length);
  });
});

describe('worked by hand', () => {
  // Mean probabilities .55 .2 .15 .1; loads 2 1 1 0; first choices 2 0 0 0.
  it.each<[keyof typeof builtInLosses, object, number, Partial<Given>?]>([
    // 4·(1·.55 + .5·.2 + .5·.15)
    ['load-balance', {}, 2.9],
    ['load-balance', { divideByTopK: true }, 1.45],
    // 4·1·.55
    ['first-choice-balance', {}, 2.2],
    // f = E/(kT)·load = 2 1 1 0; devices {0,1} and {2,3}: 1.5·.75 + .5·.25
    ['device-balance', { devices: 2 }, 1.25],
    // both tokens visit device 0, one device 1: 2/(2·2)·(2·.75 + 1·.25)
    ['communication-balance', { devices: 2 }, 0.875],
    // one null, three choices: it has 3·2-4 = 2 of the pairs; rows lack nothing: 5/3·(Σ f P + 1·0), f = 1 .5 .5 0
    ['null-expert-balance', { nulls: 1, choices: 3 }, (5 / 3) * 0.725],
    // the same with half of each row at the null: 5/3·(.725/2 + 1·.5)
    [
      'null-expert-balance',
      { nulls: 1, choices: 3 },
      (5 / 3) * (0.3625 + 0.5),
      { scores: two.scores.map((row) => row.map((p) => p / 2)) },
    ],
    // one sample of two tokens, Z = p·(1.5 .5 .5 .5): (1.65² + .2² + .15² + .1²)/4 over (2.1/4)², less 1
    [
      'localized-balance',
      { expertGroups: [1, 0, 0, 0], sequenceTokens: 2, delta: 0.5 },
      (1.65 ** 2 + 0.2 ** 2 + 0.15 ** 2 + 0.1 ** 2) / 4 / (2.1 / 4) ** 2 - 1,
      { domain: Int32Array.of(1, 1) },
    ],
    // totals 1.1 .4 .3 .2 of mean .5: squares .36 .01 .04 .09
    ['importance', {}, 0.5],
    ['importance', { deviation: 'sample' }, 2 / 3],
    // totals of chosen 1.1 .3 .2 0, mean .4: squares .49 .01 .04 .16
    ['importance', { of: 'chosen' }, 0.175 / 0.16],
    // renormalised 5/8 + 3/4, 3/8, 1/4, 0 of mean 1/2
    ['importance', { of: 'renormalised' }, ((0.875 ** 2 + 0.125 ** 2 + 0.25 ** 2 + 0.5 ** 2) / 4) * 4],
    // relu of two tokens: E/k·Σ f·mean = 4/2·(1·.55 + .5·.2 + .5·.15), λ = 1
    ['sparsity', {}, 1.45],
    ['sparsity', {}, 0.145, { buffers: { lambda: Float32Array.of(0.1) } }],
    [
      'z-loss',
      {},
      ((Math.log(4) + 1) ** 2 + Math.log(4) ** 2) / 2,
      {
        logits: [
          [1, 1, 1, 1],
          [0, 0, 0, 0],
        ],
      },
    ],
    ['entropy', {}, 1.128595],
    ['confidence', {}, 0.45],
    ['expert-count', {}, 1],
    // W Wᵀ - I = [[3, 2], [2, 0]] for rows (2 0), (1 0): √(9 + 4 + 4), and lengths 2 and 1
    [
      'orthogonality',
      { simplicity: 2 },
      Math.sqrt(17) + 3,
      {
        ...two,
        scores: [[0.5, 0.5]],
        chosen: [[0]],
        weight: [
          [2, 0],
          [1, 0],
        ],
      },
    ],
  ])('%s %j is %f', (name, options, expected, changes = {}) => {
    expect(valueOf(createLoss(name, options), { ...two, ...changes })).toBeCloseTo(expected, 4);
  });

  it('mutual information: -ln E when each token is sure of another expert, 0 when all are sure of one', () => {
    const one = [0, 1, 2, 3].map((e) => [0, 1, 2, 3].map((i) => (i === e ? 1 : 0)));
    const loss = createLoss('mutual-information');
    const logits = one.map((row) => row.map((p) => 90 * p));
    const chosen = [[0], [1], [2], [3]];
    expect(valueOf(loss, { scores: one, logits, chosen })).toBeCloseTo(-Math.log(4), 5);
    expect(valueOf(loss, { scores: one.map(() => one[0]!), logits, chosen: one.map(() => [0]) })).toBeCloseTo(
      0,
      5,
    );
  });

  it('the load estimate: a token whose choice is a standard deviation ahead', () => {
    // One token, logits 1 0, k = 1, σ = 1. V-MoE: thresholds 1 1, chances ½ and Φ(-1). Shazeer: Φ(1) and Φ(-1).
    const given: Given = { logits: [[1, 0]], scores: [[0.7311, 0.2689]], chosen: [[0]] };
    const phi = 0.8413447;
    const spread = (a: number, b: number): number => ((a - b) / (a + b)) ** 2;
    expect(valueOf(createLoss('load-estimate', { noise: 1 }), given)).toBeCloseTo(spread(0.5, 1 - phi), 4);
    expect(valueOf(createLoss('load-estimate', { noise: 1, form: 'shazeer' }), given)).toBeCloseTo(
      spread(phi, 1 - phi),
      4,
    );
  });

  it('importance at collapse is E - 1, over all layers 0 when they collapse to different experts in turn', () => {
    const at = (e: number): Given => ({
      scores: [[0, 1].map((i) => (i === e ? 1 : 0))],
      logits: [[0, 0]],
      chosen: [[e]],
    });
    expect(valueOf(createLoss('importance'), at(0))).toBeCloseTo(1, 6);
    expect(valueOf(createLoss('importance'), at(0), at(1))).toBeCloseTo(1, 6);
    expect(valueOf(createLoss('importance', { pooling: 'pooled' }), at(0), at(1))).toBeCloseTo(0, 6);
  });
});

describe('padding', () => {
  const names = lossCases.filter(({ options = {} }) => !('sequenceTokens' in options));
  it.each(names)(
    '$name $options is worth what it is without the padded tokens',
    ({ name, options, buffers }) => {
      fc.assert(
        fc.property(
          fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: 20, maxLength: 20 }),
          (values) => {
            const rows = [0, 1, 2, 3, 4].map((t) => values.slice(4 * t, 4 * t + 4));
            const softmax = (row: number[]): number[] => {
              const all = row.map(Math.exp);
              return all.map((value) => value / all.reduce((sum, one) => sum + one, 0));
            };
            const best = (row: number[]): number[] =>
              [0, 1, 2, 3].toSorted((a, b) => row[b]! - row[a]!).slice(0, 2);
            const made = (kept: readonly number[], mask: number[]): Given => ({
              logits: kept.map((t) => rows[t]!),
              scores: kept.map((t) => softmax(rows[t]!)),
              chosen: kept.map((t, i) => (mask[i] === 0 ? [] : best(rows[t]!))),
              mask: Uint8Array.from(mask),
              ...(buffers === undefined ? {} : { buffers }),
              weight: [
                [1, 2],
                [0, 1],
                [1, 1],
                [3, 0],
              ],
            });
            const loss = createLoss(name, options);
            const whole = valueOf(loss, made([0, 1, 2, 3, 4], [1, 0, 1, 1, 0]));
            expect(whole).toBeCloseTo(valueOf(loss, made([0, 2, 3], [1, 1, 1])), 3);
          },
        ),
        { numRuns: 20 },
      );
    },
  );
});
