/** A shared expert in a decoder, by configuration. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createRng, runSync } from '@moebius/core';
import { disposeTree, readHostSync, tensor } from '@moebius/tensor';
import type { Tensor } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import {
  countActiveParameters,
  countParameters,
  createModel,
  type DecoderModel,
  describeParameters,
  generate,
  initialiseParameters,
  loadModel,
  type ModelConfig,
  parseModelConfig,
  saveModel,
} from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig, tinyIds } from './tiny-model.ts';
import { checkLeaks } from './leak-check.ts';

await prepareEngine();

checkLeaks();

const ids = tinyIds(10);
const batch = { ids, targets: Int32Array.from(ids, (_, t) => ids[(t + 1) % 10] ?? 0), batch: 2 };

function configOf(combiner: string): ModelConfig {
  const shared = [{ combiner, width: 5, layers: [0, 2] }];
  return parseModelConfig({ ...tinyConfig(), moebius: { schemaVersion: 1, shared } });
}

function modelOf(combiner: string): DecoderModel {
  const config = configOf(combiner);
  return createModel({ config, parameters: initialiseParameters(config, createRng(7)) });
}

describe.each(['sum', 'sigmoid-gate', 'softmax-mix', 'conditional', 'weighted-mean'])(
  'E2: a model with a shared expert, %s',
  (combiner) => {
    it('has gradients that equal central differences', () => {
      const model = modelOf(combiner);
      const output = runSync(model.loss(batch));
      const gradients = runSync(model.backward(output.saved!));
      expect(Object.keys(gradients).toSorted()).toEqual([...model.parameters.ids()].toSorted());
      const lossAt = (): number => runSync(model.loss(batch, { training: false })).total;
      const checked = model.parameters
        .ids()
        .filter((id) => /layers\.0\.(mlp\.(shared|gate)|post_attention)/.test(id));
      expect(checked.length).toBeGreaterThan(4);
      for (const id of checked) {
        const original = Float32Array.from(readHostSync(model.parameters.read(id)));
        const at = original.length >> 1;
        const [high = 0, low = 0] = [1e-2, -1e-2].map((move) => {
          assign(model, id, original.with(at, (original[at] ?? 0) + move));
          return lossAt();
        });
        assign(model, id, original);
        const gradient = readHostSync(gradients[id] as Tensor)[at] ?? NaN;
        expect(gradient, id).toBeCloseTo((high - low) / 2e-2, 3);
      }
      disposeTree(gradients);
      model.dispose();
    });

    it('counts its tensors, opens again from its folder, and generates alike with and without a cache', async () => {
      const config = configOf(combiner);
      const list = describeParameters(config);
      const built = list.reduce((sum, { shape }) => sum + shape.reduce((size, axis) => size * axis, 1), 0);
      expect(countParameters(config)).toBe(built);
      expect(countParameters(config) - countActiveParameters(config)).toBe(
        countParameters(tinyConfig()) - countActiveParameters(tinyConfig()),
      );
      const folder = mkdtempSync(join(tmpdir(), 'moebius-shared-'));
      const model = modelOf(combiner);
      try {
        await saveModel(folder, model);
        const loaded = await loadModel(folder);
        expect(loaded.config.moebius).toEqual(model.config.moebius);
        expect(lossOf(loaded)).toBe(lossOf(model));
        const tokens: number[] = [];
        for await (const { token } of generate(loaded, [1, 2, 3], { maxNewTokens: 3 })) tokens.push(token);
        const again = [1, 2, 3];
        for (let n = 0; n < 3; n += 1) {
          const { hidden } = runSync(model.forward({ ids: Int32Array.from(again) }));
          const logits = model.logits(hidden);
          const row = readHostSync(logits).slice((again.length - 1) * model.config.vocab_size);
          again.push(row.indexOf(Math.max(...row)));
          disposeTree([hidden, logits]);
        }
        expect(tokens).toEqual(again.slice(3));
        loaded.dispose();
      } finally {
        model.dispose();
        rmSync(folder, { recursive: true });
      }
    });
  },
);

function lossOf(model: DecoderModel): number {
  return runSync(model.loss(batch, { training: false })).total;
}

function assign(model: DecoderModel, id: string, values: Float32Array): void {
  const moved = tensor(values, [...model.parameters.shape(id)]);
  model.parameters.assign(id, moved);
  moved.dispose();
}

describe('the section of a configuration', () => {
  it('names Qwen2’s tensors', () => {
    const names = describeParameters(configOf('sigmoid-gate'))
      .map(({ id, shape }) => `${id} [${shape.join()}]`)
      .filter((text) => text.includes('layers.2.mlp.shared'));
    expect(names).toEqual([
      'model.layers.2.mlp.shared_expert.gate_proj.weight [5,8]',
      'model.layers.2.mlp.shared_expert.up_proj.weight [5,8]',
      'model.layers.2.mlp.shared_expert.down_proj.weight [5,8]',
      'model.layers.2.mlp.shared_expert_gate.weight [1,8]',
    ]);
  });

  it('reports every fault', () => {
    const shared = [{ combiner: 'product', expert: 'gated', width: 0, layers: [0] }];
    expect(() => parseModelConfig({ ...tinyConfig(), moebius: { schemaVersion: 1, shared } })).toThrow(
      /moebius\.shared\[0\]\.width: must be an integer of at least 1, got 0[^]*moebius\.shared\[0\]\.combiner: must be one of sum, sigmoid-gate, softmax-mix, conditional, weighted-mean, got "product"[^]*moebius\.shared\[0\]\.expert: must be one of gated-silu, .*, got "gated"/,
    );
  });
});
