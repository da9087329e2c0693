import { createRng } from '@moebius/core';
import { createEngine } from '@moebius/tensor';
import { expectNoTensorLeak } from '@moebius/tensor/testing';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { gatedExpert, identityExpert, plainExpert } from '../../src/expert-kinds.ts';
import { parseGateConfig } from '../../src/gate-config.ts';
import { addNoise } from '../../src/surgery/host-expert.ts';
import {
  meanKeyRouter,
  upcycleExpert,
  upcycleExperts,
  upcycleFactor,
  virtualGroupRouter,
} from '../../src/surgery/upcycle.ts';
import { randomExpert, randomTensor, relativeDifference, runExpert, runLayer } from './host-layers.ts';

beforeAll(async () => {
  await createEngine();
});
expectNoTensorLeak();

/** Gates whose weights have a fixed sum, by published family. */
const fixedGates = {
  mixtral: { renormalise: true },
  granite: { scoreAfterTopK: true },
  'deepseek-v3': { score: 'sigmoid', renormalise: true, renormaliseEpsilon: 1e-20, scale: 2.5 },
  scaled: { renormalise: true, scale: 0.5 },
} as const;

const sizes = fc.record({
  copies: fc.integer({ min: 1, max: 4 }),
  shards: fc.constantFrom(1, 2, 4),
  family: fc.constantFrom(...(Object.keys(fixedGates) as (keyof typeof fixedGates)[])),
  kind: fc.constantFrom(gatedExpert(), plainExpert({ activation: 'gelu', bias: true })),
  chosen: fc.integer({ min: 1, max: 4 }),
  seed: fc.nat(1000),
});

describe('T1 upcycling', () => {
  it('T1: a renormalised upcycled layer equals the dense layer at step 0, copied or granular, whatever the router says', () => {
    fc.assert(
      fc.property(sizes, ({ copies, shards, family, kind, chosen, seed }) => {
        const gate = parseGateConfig({
          experts: copies * shards,
          topK: Math.min(chosen, copies) * shards,
          ...fixedGates[family],
        });
        const dense = randomExpert(kind, { modelWidth: 6, hiddenWidth: 8 }, seed);
        const x = randomTensor([5, 6], seed + 1);
        const { factor, isExact } = upcycleFactor(gate, shards);
        const experts = upcycleExperts(kind, dense, { copies, shards, factor });
        const router = virtualGroupRouter({
          copies,
          shards,
          modelWidth: 6,
          standardDeviation: 1,
          rng: createRng(seed),
        });
        expect(isExact).toBe(true);
        const expected = runExpert(kind, dense, x);
        expect(relativeDifference(runLayer(kind, { experts, router, gate }, x), expected)).toBeLessThan(2e-6);
      }),
      { numRuns: 150 },
    );
  });

  it('T1: without renormalisation the layer equals the dense layer while all experts score the same', () => {
    for (const [score, shards, topK] of [
      ['softmax', 1, 2],
      ['softmax', 2, 4],
      ['sigmoid', 2, 2],
      ['sqrt-softplus', 2, 4],
    ] as const) {
      const gate = parseGateConfig({ experts: 4 * shards, topK, score });
      const dense = randomExpert(gatedExpert(), { modelWidth: 6, hiddenWidth: 8 }, 3);
      const x = randomTensor([5, 6], 4);
      const { factor, isExact, reason } = upcycleFactor(gate, shards);
      const experts = upcycleExperts(gatedExpert(), dense, { copies: 4, shards, factor });
      const router = { shape: [4 * shards, 6], data: new Float32Array(4 * shards * 6) };
      expect(isExact).toBe(false);
      expect(reason).toBe('the weights of the gate are not renormalised: their sum depends on the router');
      const got = runLayer(gatedExpert(), { experts, router, gate }, x);
      expect(relativeDifference(got, runExpert(gatedExpert(), dense, x))).toBeLessThan(2e-6);
    }
  });

  it('T1: the factor is e·g²/k for softmax over all experts and g after top-k, as in Megatron', () => {
    for (const [copies, shards, topK] of [
      [8, 1, 2],
      [8, 8, 8],
      [4, 2, 4],
    ] as const) {
      const experts = copies * shards;
      const plain = upcycleFactor(parseGateConfig({ experts, topK }), shards).factor;
      expect(plain).toBeCloseTo((copies * shards ** 2) / topK, 12);
      expect(upcycleFactor(parseGateConfig({ experts, topK, scoreAfterTopK: true }), shards).factor).toBe(
        shards,
      );
    }
  });

  it('T1: spread evenly, the factor is its cube root on three matrices and its square root on two; exact for ReLU', () => {
    const dense = randomExpert(gatedExpert(), { modelWidth: 2, hiddenWidth: 2 }, 1);
    const [even] = upcycleExperts(gatedExpert(), dense, { copies: 1, factor: 8, placing: 'even' });
    for (const part of ['gate', 'up', 'down']) {
      expect(even?.[part]?.data).toEqual(dense[part]?.data.map((value) => value * 2));
    }
    const gate = parseGateConfig({ experts: 8, topK: 4, renormalise: true });
    const x = randomTensor([7, 6], 9);
    for (const kind of [
      gatedExpert({ activation: 'relu' }),
      plainExpert({ activation: 'relu', bias: true }),
    ]) {
      const layer = randomExpert(kind, { modelWidth: 6, hiddenWidth: 8 }, 5);
      const options = { copies: 4, shards: 2, factor: 2, placing: 'even' } as const;
      const experts = upcycleExperts(kind, layer, options);
      const router = virtualGroupRouter({
        copies: 4,
        shards: 2,
        modelWidth: 6,
        standardDeviation: 1,
        rng: createRng(6),
      });
      const got = runLayer(kind, { experts, router, gate }, x);
      expect(relativeDifference(got, runExpert(kind, layer, x))).toBeLessThan(2e-6);
    }
  });

  it('a top-k that cuts a copy is not exact, and says so', () => {
    const gate = parseGateConfig({ experts: 8, topK: 3, renormalise: true });
    expect(upcycleFactor(gate, 2)).toEqual({
      factor: 2,
      isExact: false,
      reason: 'top-k 3 is not a multiple of 2 shards: one copy is chosen in part',
    });
  });

  it('copies without noise are the same bits; with noise the first is the dense layer and no two others agree', () => {
    const dense = randomExpert(gatedExpert(), { modelWidth: 3, hiddenWidth: 4 }, 1);
    const same = upcycleExperts(gatedExpert(), dense, { copies: 3 });
    for (const expert of same) expect(expert).toEqual(dense);
    const noise = { relative: 0.1, rng: createRng(2) };
    const noisy = upcycleExperts(gatedExpert(), dense, { copies: 3, noise });
    expect(noisy[0]).toEqual(dense);
    expect(noisy[1]?.['up']?.data).not.toEqual(dense['up']?.data);
    expect(noisy[1]?.['up']?.data).not.toEqual(noisy[2]?.['up']?.data);
    expect(upcycleExpert(gatedExpert(), dense, { copies: 3, noise, expert: 2 })).toEqual(noisy[2]);
  });

  it('noise has the size asked for, relative to each part', () => {
    const up = { shape: [4000], data: new Float32Array(4000).fill(10) };
    const { up: noisy } = addNoise({ up }, 0.05, createRng(1));
    const deviations = Float64Array.from(noisy?.data ?? [], (value) => value - 10);
    const size = Math.sqrt(deviations.reduce((sum, value) => sum + value * value, 0) / 4000);
    expect(size).toBeGreaterThan(0.48);
    expect(size).toBeLessThan(0.52);
  });

  it('gives every expert its own numbers', () => {
    const dense = randomExpert(gatedExpert(), { modelWidth: 2, hiddenWidth: 2 }, 1);
    const experts = upcycleExperts(gatedExpert(), dense, { copies: 2 });
    const buffers = [dense, ...experts].map(({ up }) => up?.data.buffer);
    expect(new Set(buffers).size).toBe(3);
  });

  it('a router of mean keys has the mean of each expert’s rows', () => {
    const part = (values: number[]) => ({ gate: { shape: [2, 2], data: Float32Array.from(values) } });
    const router = meanKeyRouter([part([1, 2, 3, 4]), part([0, 0, 2, -2])], { part: 'gate' });
    expect(router).toEqual({ shape: [2, 2], data: Float32Array.of(2, 3, 1, -1) });
    const small = meanKeyRouter([part([1, 2, 3, 4])], { part: 'gate', standardDeviation: 0.02 });
    expect(Math.hypot(...small.data) / Math.SQRT2).toBeCloseTo(0.02, 6);
  });

  it('says what does not fit', () => {
    const dense = randomExpert(gatedExpert(), { modelWidth: 2, hiddenWidth: 6 }, 1);
    const attempt = (call: () => unknown, message: string): void => expect(call).toThrow(message);
    attempt(
      () => upcycleExperts(gatedExpert(), dense, { copies: 2, shards: 4 }),
      'neurons: must be a multiple of the 4 experts that share them, got 6 (choose a number that divides them)',
    );
    attempt(
      () => upcycleFactor(parseGateConfig({ experts: 6, topK: 2, renormalise: true }), 4),
      'shards: must divide experts 6, got 4',
    );
    attempt(
      () => upcycleFactor(parseGateConfig({ experts: 6, topK: 2, score: 'identity' })),
      'gate score identity: must have weights with an expected sum (softmax, sigmoid, sqrt-softplus), got identity (give the factor yourself)',
    );
    attempt(
      () => upcycleExperts(gatedExpert(), dense, { copies: 0 }),
      'copies: must be an integer of at least 1, got 0',
    );
    attempt(
      () => upcycleExpert(gatedExpert(), dense, { copies: 2, expert: 2 }),
      'expert: must be an integer below copies · shards 2, got 2',
    );
    attempt(
      () => upcycleExperts(identityExpert(), {}, { copies: 2, factor: 2 }),
      'kind identity: must have a part that its output is linear in, got parts none (name them in outputParts)',
    );
    attempt(
      () => upcycleExperts(gatedExpert(), { up: dense['up']! }, { copies: 2 }),
      'dense layer of kind gated-silu: must have the parts gate, up, down, got up',
    );
    attempt(
      () => upcycleExperts(gatedExpert(), { ...dense, up: randomTensor([5, 2], 1) }, { copies: 2 }),
      'dense layer, part up: must be [6, 2], got [5, 2]',
    );
    attempt(
      () => upcycleExperts(gatedExpert(), dense, { copies: 2, noise: { relative: -1, rng: createRng(0) } }),
      'noise: must be a number of at least 0, got -1',
    );
  });
});
