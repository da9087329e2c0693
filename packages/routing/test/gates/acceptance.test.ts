/**
 * The acceptance tests of the survey's gating leaves: G1 order, G2 noise, G3 any k, G4 groups. G5, G6 and G8 are in
 * `acceptance-scores.test.ts`.
 */
import { createEngine, disposeTree, eye, tensor, tensor2d } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { sparseMixerRouter } from '../../src/experimental/index.ts';
import { chooseTopK, composeRouter, linearScorer, weighScores } from '../../src/gates/index.ts';
import { advanceRouter } from '../../src/index.ts';
import type { Router, RouterOptions, RouterSettings } from '../../src/index.ts';
import { kitRng } from '../../src/testing/checks.ts';
import { expectWeights, experts, made, route, softmaxOfZ, z } from './route-rows.ts';
import type { Weights } from './route-rows.ts';

beforeAll(async () => {
  await createEngine();
});

const rowsOf = (least: number): fc.Arbitrary<number[][]> =>
  fc.array(
    fc.array(
      fc.integer({ min: -64, max: 64 }).map((value) => value / 16),
      { minLength: experts, maxLength: experts },
    ),
    { minLength: least, maxLength: 3 },
  );

describe('G1 softmax∘TopK and TopK∘softmax', () => {
  const composed = (weigh: Parameters<typeof weighScores>[0], topK: number = 2): Router =>
    composeRouter({
      name: 'composed',
      experts,
      topK,
      scorer: linearScorer({ columns: experts }),
      score: 'softmax',
      choose: chooseTopK({ topK }),
      weigh: weighScores(weigh),
    });

  it('has the reference vectors', () => {
    expectWeights(route(composed({ renormalise: true }), [z])[0], { 3: 0.524979, 5: 0.475021 });
    expectWeights(route(composed({ softmaxChosen: true }), [z])[0], { 3: 0.524979, 5: 0.475021 });
    expectWeights(route(composed({}), [z])[0], { 3: 0.324126, 5: 0.293281 });
    expectWeights(route(composed({}, 3), [z])[0], { 0: 0.145639, 3: 0.324126, 5: 0.293281 });
    expectWeights(route(made('switch'), [z])[0], { 3: 0.324126 });
    expectWeights(route(made('noisy-top-k'), [z])[0], { 3: 0.524979, 5: 0.475021 });
    expectWeights(route(made('top-2', { evaluate: 'always' }), [z])[0], { 3: 0.524979, 5: 0.475021 });
  });

  it('has the reference vectors of Phi-3.5: two masked softmaxes, which do not sum to 1', () => {
    const phi = sparseMixerRouter({ experts, topK: 2, jitter: 0.01 });
    const near = z.with(5, 1.97);
    expectWeights(route(phi, [z])[0], { 3: 1, 5: 1 });
    expectWeights(route(phi, [near])[0], { 3: 0.507499, 5: 1 });
    expectWeights(route(phi, [near.with(0, 1.95)])[0], { 3: 0.507499, 5: 0.505 });
  });

  it('(a) gives the same weights in both orders when renormalised', () => {
    fc.assert(
      fc.property(rowsOf(1), fc.integer({ min: 1, max: experts }), (rows, topK) => {
        const divided = route(composed({ renormalise: true }, topK), rows);
        const after = route(composed({ softmaxChosen: true }, topK), rows);
        for (const [t, weights] of divided.entries()) expectWeights(after[t], weights);
      }),
      { numRuns: 30 },
    );
  });

  it('(b) gives others without', () => {
    const [divided] = route(composed({}), [z]);
    const [after] = route(composed({ softmaxChosen: true }), [z]);
    expect((divided?.[3] ?? 0) + (divided?.[5] ?? 0)).toBeCloseTo(0.617407, 5);
    expect((after?.[3] ?? 0) + (after?.[5] ?? 0)).toBeCloseTo(1, 5);
  });
});

describe('G2 noise', () => {
  const forms: [string, RouterSettings][] = [
    ['noisy-top-k', {}],
    ['noisy-top-k', { noise: 'additive', amount: 1 }],
    ['noisy-top-k', { noise: 'jitter', amount: 0.5 }],
    ['noisy-top-k', { noise: 'gumbel' }],
    ['switch', { jitter: 0.5 }],
    ['dense-to-sparse', { threshold: 0.2 }],
    ['top-2', { second: 'random', threshold: 1 }],
  ];
  const rows = Array.from({ length: 12 }, (_, t) => z.map((value, e) => value + 0.3 * Math.sin(t * 8 + e)));

  it('is the same for the same seed, another for another, and nothing in evaluation', () => {
    for (const [name, settings] of forms) {
      const router = made(name, settings);
      const parameters = Object.fromEntries(
        Object.entries(router.parameterShapes(experts)).map(([key, shape]) => [
          key,
          key === 'weight' ? eye(experts) : tensor(new Float32Array(shape[0]! * shape[1]!), [...shape]),
        ]),
      );
      const run = (seed?: string): Weights => {
        const options: RouterOptions = seed === undefined ? {} : { rng: kitRng(seed), phase: 'train' };
        return route(router, rows, { options, parameters });
      };
      expect(run('one')).toEqual(run('one'));
      expect(run('one')).not.toEqual(run('two'));
      expect(run()).toEqual(run());
      disposeTree(parameters);
    }
  });

  it('of Gumbel makes the first expert a sample of the softmax', () => {
    const router = made('noisy-top-k', { noise: 'gumbel', topK: 1 });
    const many = Array.from({ length: 4000 }, () => z);
    const counts = new Float64Array(experts);
    for (const weights of route(router, many, { options: { rng: kitRng('gumbel'), phase: 'train' } }))
      counts[Number(Object.keys(weights)[0])]! += 1 / many.length;
    // Four standard deviations of a share of 4,000 draws are at most 0.032.
    for (const [e, share] of softmaxOfZ.entries()) expect(Math.abs(counts[e]! - share)).toBeLessThan(0.032);
  });
});

describe('G3 any k', () => {
  const dense = Object.fromEntries(softmaxOfZ.map((share, e) => [e, share]));
  const forms: [string, RouterSettings][] = [
    ['top-k', { topK: experts }],
    ['noisy-top-k', { topK: experts, weights: 'scores' }],
    ['scheduled-top-k', { from: experts, to: 1 }],
    ['top-p', { p: 1 }],
    ['dense-to-sparse', { from: 1, threshold: 0 }],
    ['hierarchical', { groups: 1, keep: 1, perGroup: experts }],
    ['prototypes', { groups: 1, perGroup: experts }],
  ];

  it('with k = E is the dense gate', () => {
    for (const [name, settings] of forms) {
      const router = made(name, settings);
      const parameters = {
        weight: eye(experts),
        ...(name === 'hierarchical'
          ? { group_weight: tensor2d(new Float32Array(experts), [1, experts]) }
          : {}),
        ...(name === 'noisy-top-k' ? { noise_weight: eye(experts) } : {}),
      };
      expectWeights(route(router, [z], { parameters })[0], dense);
      disposeTree(parameters);
    }
  });

  it('top-2 keeps its second by policy, and the first weighs the same', () => {
    const close = [0, 0, 0, 2, 0, 1, 0, 0];
    const far = [0, 0, 0, 5, 0, 1, 0, 0];
    const share = (gap: number): number => 1 / (1 + Math.exp(-gap));
    const run = (second: string, row: number[], rng = kitRng('second')): Record<number, number> | undefined =>
      route(made('top-2', { second, threshold: 0.2 }), [row], { options: { rng, phase: 'train' } })[0];
    expectWeights(run('always', far), { 3: share(4), 5: 1 - share(4) });
    expectWeights(run('never', close), { 3: share(1) });
    expectWeights(run('threshold', close), { 3: share(1), 5: 1 - share(1) });
    expectWeights(run('threshold', far), { 3: share(4) });
    // A share of 0.018 against 0.2 is kept in 9 % of draws, one above 0.2 always.
    const kept = Array.from({ length: 400 }, (_, i) =>
      Object.keys(run('random', far, kitRng(`draw ${i}`)) ?? {}).length === 2 ? 1 : 0,
    );
    const rate = kept.reduce((sum: number, one) => sum + one, 0) / kept.length;
    expect(Math.abs(rate - (1 - share(4)) / 0.2)).toBeLessThan(0.06);
    expect(Object.keys(run('random', close) ?? {})).toEqual(['3', '5']);
  });

  it('follows its schedule, and stays where it was trained to', () => {
    const router = made('scheduled-top-k', { from: 8, to: 2, steps: 6 });
    let buffers: Record<string, Float32Array> = { step: new Float32Array(1) };
    const counts = Array.from({ length: 9 }, (_, step) => {
      const [weights] = route(router, [z], { options: { buffers } });
      const load = new Float64Array(experts);
      buffers = advanceRouter(router, buffers, { load, layer: 0, step: step + 1 });
      return Object.keys(weights ?? {}).length;
    });
    expect(counts).toEqual([8, 7, 6, 5, 4, 3, 2, 2, 2]);
  });
});

describe('G4 groups', () => {
  it('one group is a plain top-k: limited, two-level, prototypes', () => {
    fc.assert(
      fc.property(rowsOf(1), (rows) => {
        const plain = route(made('top-k', { topK: 3 }), rows);
        const one = { count: 1, keep: 1, score: 'max', fill: 'negative-infinity' };
        const group = { weight: eye(experts), group_weight: tensor2d(new Float32Array(8), [1, 8]) };
        const two = { groups: 1, keep: 1, perGroup: 3, renormalise: false };
        const others = [
          route(made('top-k', { topK: 3, groups: one }), rows),
          route(made('hierarchical', two), rows, { parameters: group }),
          route(made('prototypes', { groups: 1, perGroup: 3 }), rows),
        ];
        disposeTree(group);
        for (const other of others)
          for (const [t, weights] of plain.entries()) expectWeights(other[t], weights);
      }),
      { numRuns: 20 },
    );
  });

  it('groups of one expert leave the choice to the groups: two levels are a top-k of the group gate', () => {
    const parameters = { weight: tensor2d(new Float32Array(64), [8, 8]), group_weight: eye(experts) };
    const two = { groups: experts, keep: 2, perGroup: 1, renormalise: true };
    expectWeights(route(made('hierarchical', two), [z], { parameters })[0], { 3: 0.524979, 5: 0.475021 });
    disposeTree(parameters);
    const each = { count: experts, keep: 2, score: 'max', fill: 'negative-infinity' };
    const limited = made('top-k', { topK: 2, renormalise: true, groups: each });
    expectWeights(route(limited, [z])[0], { 3: 0.524979, 5: 0.475021 });
  });

  it('two levels multiply the probabilities of group and expert', () => {
    const parameters = {
      weight: eye(experts),
      group_weight: tensor2d(
        Float32Array.from({ length: 16 }, (_, i) => Math.sin(i)),
        [2, 8],
      ),
    };
    const [u = 0, v = 0] = [0, 1].map((g) =>
      z.reduce((sum, value, d) => sum + value * Math.sin(g * 8 + d), 0),
    );
    const softmax = (values: number[], at: number): number =>
      Math.exp(values[at]!) / values.reduce((sum, value) => sum + Math.exp(value), 0);
    const router = made('hierarchical', { groups: 2, keep: 2, perGroup: 1, renormalise: false });
    expectWeights(route(router, [z], { parameters })[0], {
      3: softmax([u, v], 0) * softmax(z.slice(0, 4), 3),
      5: softmax([u, v], 1) * softmax(z.slice(4), 1),
    });
    disposeTree(parameters);
  });

  it('prototypes add the best of each group, weighed inside it', () => {
    const inside = (from: number, at: number): number =>
      Math.exp(z[at]!) / z.slice(from, from + 4).reduce((sum, value) => sum + Math.exp(value), 0);
    expectWeights(route(made('prototypes'), [z])[0], { 3: inside(0, 3), 5: inside(4, 5) });
  });
});
