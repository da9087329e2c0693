import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { runSync } from '@moebius/core';
import { splitByCoActivation } from '@moebius/routing/surgery';
import { disposeTree } from '@moebius/tensor';
import { expectNoTensorLeak } from '@moebius/tensor/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { loadModel, parseModelConfig, readModelConfig, saveModel } from '../../src/index.ts';
import {
  measureCoActivations,
  mergeModel,
  modelOfValues,
  openModelValues,
  saveModelValues,
  type UpcycleModelOptions,
  upcycleModel,
  valuesOfModel,
} from '../../src/surgery/index.ts';
import { prepareEngine } from '../prepare-engine.ts';
import { tinyIds, tinyModel } from '../tiny-model.ts';
import { denseModel, logitsOf, logitsOfValues, relativeDifference, takeValues } from './run-model.ts';

await prepareEngine();
expectNoTensorLeak();

let root = '';
beforeAll(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-upcycle-'));
});
afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

const exactWays: readonly (readonly [string, UpcycleModelOptions])[] = [
  ['copies', { experts: 4, topK: 2 }],
  ['top-1 of copies', { experts: 3, topK: 1 }],
  ['copies in some layers', { experts: 4, topK: 2, layers: [0, 2] }],
  ['granular, neighbours together', { experts: 6, topK: 3, shards: 3 }],
  ['granular, at random', { experts: 8, topK: 4, shards: 2, split: 'random', seed: 3 }],
  ['granular, by clusters, two copies chosen', { experts: 12, topK: 8, shards: 4, split: 'cluster' }],
  ['one copy cut up, all experts on', { experts: 4, topK: 4, shards: 4, router: 'zero' }],
];

describe('upcycling a model', () => {
  it.each(exactWays)('T1: the sparse model computes what the dense one did: %s', (_name, options) => {
    const dense = denseModel();
    const expected = logitsOf(dense);
    const { values, report } = upcycleModel(valuesOfModel(dense), options);
    expect(report.isExact).toBe(true);
    expect(relativeDifference(logitsOfValues(values), expected)).toBeLessThan(1e-5);
    dense.dispose();
  });

  it.each([
    [
      'without renormalisation',
      { renormalise: false },
      'the weights of the gate are not renormalised: their sum depends on the router',
    ],
    ['with noise', { noise: 0.1 }, 'noise of 0.1 on 3 of 4 copies'],
    [
      'with a router row for each shard',
      { shards: 2, router: 'mean-key' },
      'each shard has a router row of its own: tokens get parts of the layer',
    ],
    [
      'with a factor around SiLU',
      { shards: 2, placing: 'even' },
      'the factor is spread over matrices around a SiLU, which does not pass it on',
    ],
    [
      'with a copy chosen in part',
      { topK: 3, shards: 2 },
      'top-k 3 is not a multiple of 2 shards: one copy is chosen in part',
    ],
  ] as const)('is near, and says why it is not exact: %s', (_name, options, note) => {
    const dense = denseModel();
    const { values, report } = upcycleModel(valuesOfModel(dense), { experts: 4, topK: 2, ...options });
    expect(report).toMatchObject({ isExact: false, notes: [note] });
    expect(relativeDifference(logitsOfValues(values), logitsOf(dense))).toBeGreaterThan(1e-5);
    dense.dispose();
  });

  it('reports where every tensor comes from, and loses none', () => {
    const values = takeValues(denseModel());
    const { report, values: sparse } = upcycleModel(values, { experts: 2, topK: 1, layers: [1] });
    expect(report.layers).toEqual([1]);
    expect(report.dropped).toEqual([]);
    expect(report.tensors.filter(({ fate }) => fate !== 'kept')).toEqual([
      { id: 'model.layers.1.mlp.gate.weight', fate: 'fresh', from: [] },
      ...[0, 1].flatMap((expert) =>
        ['gate', 'up', 'down'].map((part) => ({
          id: `model.layers.1.mlp.experts.${expert}.${part}_proj.weight`,
          fate: 'copied',
          from: [`model.layers.1.mlp.${part}_proj.weight`],
        })),
      ),
    ]);
    expect(sparse.config.mlp_only_layers).toEqual([0, 2]);
    expect(report.parameters.after - report.parameters.before).toBe(3 * 12 * 8 + 2 * 8);
  });

  it('goes from folder to folder, one tensor at a time, and the folder opens', async () => {
    const dense = denseModel({ tie_word_embeddings: true });
    const expected = logitsOf(dense);
    saveModel(path.join(root, 'dense'), dense);
    dense.dispose();
    const opened = openModelValues(path.join(root, 'dense'));
    const { values } = upcycleModel(opened, { experts: 4, topK: 2, shards: 2 });
    saveModelValues(path.join(root, 'sparse'), values);
    values.close();
    const sparse = await loadModel(path.join(root, 'sparse'));
    expect(sparse.config).toMatchObject({
      model_type: 'qwen3_moe',
      num_experts: 4,
      moe_intermediate_size: 6,
      norm_topk_prob: true,
    });
    expect(relativeDifference(logitsOf(sparse), expected)).toBeLessThan(1e-5);
    sparse.dispose();
    expect(() => opened.read('model.norm.weight')).toThrow();
  });

  it('T2: splits by which neurons are active together on a text, and computes the same with all on', () => {
    const dense = denseModel();
    const expected = logitsOf(dense);
    const values = takeValues(dense);
    const batches = [{ ids: tinyIds(24, 19, 5) }, { ids: tinyIds(24, 19, 6), batch: 2 }];
    const coActivations = measureCoActivations(values, batches, { share: 0.25 });
    for (const layer of [0, 1, 2]) {
      const counts = coActivations[layer];
      expect(counts?.shape).toEqual([12, 12]);
      // 48 tokens, 3 of 12 neurons active at each: 6 ordered pairs a token.
      expect(counts?.data.reduce((sum, count) => sum + count, 0)).toBe(48 * 6);
    }
    const options = { experts: 4, topK: 4, shards: 4, router: 'zero', split: 'co-activation' } as const;
    const { values: sparse } = upcycleModel(values, { ...options, coActivations });
    expect(relativeDifference(logitsOfValues(sparse), expected)).toBeLessThan(1e-5);
    const first = splitByCoActivation(coActivations[0]!, { experts: 4 })[0]!;
    const up = values.read('model.layers.0.mlp.up_proj.weight');
    const rows = [...first].flatMap((neuron) => [...up.subarray(neuron * 8, neuron * 8 + 8)]);
    expect([...sparse.read('model.layers.0.mlp.experts.0.up_proj.weight')]).toEqual(rows);
    expect(() =>
      upcycleModel(values, options).values.read('model.layers.0.mlp.experts.0.up_proj.weight'),
    ).toThrow(
      'coActivations: must have counts of layer 0 for a split by co-activation, got none (measureCoActivations makes them)',
    );
  });

  it('the same seed gives the same bits, another one other routers', () => {
    const values = takeValues(denseModel());
    const make = (seed: number): Float32Array[] => {
      const { values: sparse, report } = upcycleModel(values, { experts: 4, topK: 2, noise: 0.1, seed });
      return report.tensors.map(({ id }) => sparse.read(id).slice());
    };
    expect(make(1)).toEqual(make(1));
    expect(make(1)).not.toEqual(make(2));
  });

  it('an upcycled model trains', () => {
    const { values } = upcycleModel(takeValues(denseModel()), { experts: 4, topK: 2, noise: 0.05 });
    const model = modelOfValues(values);
    const ids = tinyIds(32);
    const losses: number[] = [];
    for (let step = 0; step < 12; step += 1) {
      const { total, saved } = runSync(
        model.loss({ ids, targets: ids.map((id) => (id + 1) % 19), batch: 2 }),
      );
      losses.push(total);
      if (saved === null) break;
      const gradients = runSync(model.backward(saved));
      model.parameters.update(gradients, { optimizer: { lr: 3e-3 } });
      disposeTree(gradients);
    }
    expect(losses.at(-1)).toBeLessThan(losses[0]! - 0.3);
    model.dispose();
  });

  it('says all that does not fit', () => {
    const values = takeValues(denseModel());
    const fault = (options: UpcycleModelOptions): string => {
      try {
        upcycleModel(values, options);
      } catch (error) {
        return (error as Error).message;
      }
      return 'no error';
    };
    expect(fault({ experts: 6, topK: 9, shards: 5, noise: -1 })).toBe(
      'upcycling: must be a valid configuration, got 4 faults:\n' +
        '  topK: must be at most experts 6, got 9 (lower topK or add experts)\n' +
        '  shards: must divide experts 6, got 5 (every copy is cut into as many experts)\n' +
        '  shards: must divide intermediate_size 12, got 5 (divisors: 1, 2, 3, 4, 6, 12)\n' +
        '  noise: must be a number of at least 0, got -1',
    );
    expect(fault({ experts: 4, topK: 1, layers: [3] })).toBe(
      'layers: must name layers of the model (0, 1, 2), got 3',
    );
    expect(fault({ experts: 4, topK: 1, layers: [] })).toBe(
      'layers: must name layers of the model (0, 1, 2), got an empty list',
    );
    const sparse = takeValues(tinyModel());
    expect(() => upcycleModel(sparse, { experts: 4, topK: 1 })).toThrow(
      'model: must be dense to be upcycled, got 4 experts in 2 of 3 layers (add experts to it instead, or merge them first)',
    );
  });
});

describe('a dense model', () => {
  it('is of type qwen3, with a config.json that does not speak of experts', () => {
    const model = denseModel();
    const folder = path.join(root, 'qwen3');
    saveModel(folder, model);
    const raw = JSON.parse(fs.readFileSync(path.join(folder, 'config.json'), 'utf8')) as {
      [key: string]: unknown;
    };
    expect(raw).toMatchObject({
      model_type: 'qwen3',
      architectures: ['Qwen3ForCausalLM'],
      intermediate_size: 12,
    });
    expect(Object.keys(raw).filter((key) => /expert|moe|topk|mlp_only|sparse|router/.test(key))).toEqual([]);
    expect(readModelConfig(folder)).toEqual(model.config);
    model.dispose();
  });

  it('has no experts', () => {
    expect(() => parseModelConfig({ ...denseConfig, num_experts: 4 })).toThrow(
      'num_experts: must be an integer from 0 to 0, got 4',
    );
  });
});

const denseConfig = {
  model_type: 'qwen3',
  vocab_size: 19,
  hidden_size: 8,
  intermediate_size: 10,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};

describe('merging a model', () => {
  it('T3: with one expert in every layer it is exact', () => {
    const sparse = tinyModel({
      num_experts: 1,
      num_experts_per_tok: 1,
      mlp_only_layers: [],
      intermediate_size: 6,
    });
    for (const method of ['average', 'low-rank', 'join'] as const) {
      const { values, report } = mergeModel(valuesOfModel(sparse), { method });
      expect(report).toMatchObject({ isExact: true, notes: [], layers: [0, 1, 2] });
      expect(values.config.model_type).toBe('qwen3');
      expect(relativeDifference(logitsOfValues(values), logitsOf(sparse))).toBeLessThan(1e-5);
    }
    sparse.dispose();
  });

  it('T3: merging what was upcycled gives the dense model back, bit for bit', () => {
    const dense = takeValues(denseModel());
    const { values: sparse } = upcycleModel(dense, { experts: 4, topK: 2 });
    for (const method of ['average', 'best', 'top'] as const) {
      const load = { 0: [1, 2, 3, 4], 1: [4, 3, 2, 1], 2: [0, 0, 1, 0] };
      const { values, report } = mergeModel(sparse, { method, load, count: 2 });
      expect(values.config).toEqual(dense.config);
      for (const { id } of report.tensors) expect(values.read(id)).toEqual(dense.read(id));
      expect(report.dropped).toEqual([0, 1, 2].map((layer) => `model.layers.${layer}.mlp.gate.weight`));
    }
    const granular = upcycleModel(dense, { experts: 3, topK: 3, shards: 3, router: 'zero' }).values;
    const joined = mergeModel(granular, { method: 'join' }).values;
    expect(joined.config.intermediate_size).toBe(12);
    expect(relativeDifference(logitsOfValues(joined), logitsOfValues(dense))).toBeLessThan(1e-5);
  });

  it('keeps the width that dense layers have, or says so', () => {
    const sparse = takeValues(tinyModel({ intermediate_size: 6, norm_topk_prob: true }));
    const { values, report } = mergeModel(sparse, { method: 'average' });
    expect(report.layers).toEqual([0, 2]);
    expect(report.notes).toEqual(['experts that differ cannot be one dense layer: train on, or distil']);
    expect(values.config.intermediate_size).toBe(6);
    expect(() => mergeModel(takeValues(tinyModel()), { method: 'average' })).toThrow(
      'merged layers: must be as wide as the dense layers there are, intermediate_size 10, got 6 (a dense model has one width; join as many experts as make it up)',
    );
  });

  it('says what is missing', () => {
    const dense = takeValues(denseModel());
    expect(() => mergeModel(dense, { method: 'average' })).toThrow(
      'model: must have experts to be merged, got a dense model (nothing is to do)',
    );
    const sparse = takeValues(tinyModel({ intermediate_size: 6 }));
    expect(() => mergeModel(sparse, { method: 'best' })).toThrow(
      'load of layer 0: must be given for method best, got none (measure it on a text)',
    );
    const load = { 0: [1, 1, 1, 1], 2: [1, 1, 1, 1] };
    expect(() => mergeModel(sparse, { method: 'top', load })).toThrow(
      'count: must be given for method top, got none',
    );
  });
});
