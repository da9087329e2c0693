/** Model folders with routers and experts that are not the family's own: what config.json says, and what a wrong reader is told. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { createRng, runSync } from '@moebius/core';
import { defineRouter, identityExpert, parseGateConfig, plainExpert, topKRouter } from '@moebius/routing';
import { countTensors, disposeTree, readHostSync } from '@moebius/tensor';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import {
  countParameters,
  createModel,
  type DecoderModel,
  initialiseParameters,
  loadModel,
  type PartsChoice,
  parseModelConfig,
  readModelConfig,
  saveModel,
} from '../src/index.ts';
import { cosineFactory, cosineRouter } from './plugin-routers.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig, tinyIds } from './tiny-model.ts';

await prepareEngine();

let before = 0;
let root = '';
beforeEach(() => {
  before = countTensors();
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-parts-'));
});
afterEach(() => {
  fs.rmSync(root, { recursive: true, force: true });
  expect(countTensors()).toBe(before);
});

function modelOf(choice: PartsChoice): DecoderModel {
  const config = tinyConfig();
  return createModel({ config, parameters: initialiseParameters(config, createRng(7), choice), ...choice });
}

function hidden(model: DecoderModel): number[] {
  const output = runSync(model.forward({ ids: tinyIds(6) }));
  const values = [...readHostSync(output.hidden)];
  disposeTree(output);
  return values;
}

async function messageOf(promise: Promise<DecoderModel>): Promise<string> {
  try {
    (await promise).dispose();
  } catch (error) {
    return (error as Error).message.replaceAll(root, '<root>');
  }
  return 'no error';
}

const cosine: PartsChoice = { router: (place) => cosineFactory.create(place, { temperature: 0.3 }) };

describe('a folder whose router is a plug-in', () => {
  it('names it in config.json, and opens with the plug-in to the same numbers', async () => {
    const model = modelOf({ ...cosine, experts: plainExpert({ activation: 'relu', bias: true }) });
    const folder = path.join(root, 'model');
    saveModel(folder, model);
    const raw = JSON.parse(fs.readFileSync(path.join(folder, 'config.json'), 'utf8')) as object;
    expect(raw).toMatchObject({
      architectures: ['Qwen3MoeForCausalLM'],
      moebius: {
        schemaVersion: 1,
        routers: [{ name: 'angle', options: { temperature: 0.3 }, layers: [0, 2] }],
        experts: [{ name: 'plain-relu-bias', layers: [0, 2] }],
      },
    });
    const again = await loadModel(folder, { plugins: [cosineFactory] });
    expect(hidden(again)).toEqual(hidden(model));
    expect(again.config).toEqual(model.config);
    expect(countParameters(again.config, again.parts)).toBe(countParameters(tinyConfig(), model.parts));
    const given = await loadModel(folder, cosine);
    expect(hidden(given)).toEqual(hidden(model));
    saveModel(path.join(root, 'copy'), again);
    expect(readModelConfig(path.join(root, 'copy'))).toEqual(readModelConfig(folder));
    for (const one of [model, again, given]) one.dispose();
  });

  it('is refused without it, by name, also when it is another one', async () => {
    const model = modelOf(cosine);
    const folder = path.join(root, 'model');
    saveModel(folder, model);
    model.dispose();
    expect(await messageOf(loadModel(folder))).toBe(
      '<root>/model: config.json: must be a valid configuration, got 1 fault:\n' +
        '  moebius.routers[0].name: must name a router that is given (none) or built in, got "angle" (give the plug-in that has it: { plugins: [...] }, "plugins" of a run, or --plugin)',
    );
    const near = defineRouter({ ...cosineRouter({ experts: 4, topK: 2, temperature: 1 }), name: 'angl' });
    expect(await messageOf(loadModel(folder, { plugins: [near] }))).toContain(
      'must name a router that is given (angl) or built in, got "angle" (did you mean "angl"? else give the plug-in',
    );
    const gate = topKRouter(parseGateConfig({ experts: 4, topK: 2 }));
    expect(await messageOf(loadModel(folder, { router: gate }))).toContain(
      'moebius.routers[0]: must agree with the router given, "top-k" {"experts":4',
    );
    const cold: PartsChoice = { router: (place) => cosineFactory.create(place, { temperature: 9 }) };
    expect(await messageOf(loadModel(folder, cold))).toContain(
      'must agree with the router given, "angle" {"temperature":9}, got "angle" {"temperature":0.3}',
    );
  });

  it('keeps buffers as tensors of the file', async () => {
    const { gate: _gate, infer: _infer, ...base } = topKRouter(parseGateConfig({ experts: 4, topK: 2 }));
    const counting = defineRouter({
      ...base,
      name: 'counting',
      bufferShapes: () => ({ seen: [4] }),
      advance: (_, { load }) => ({ seen: Float32Array.from(load) }),
    });
    const model = modelOf({ router: counting });
    model.routerState.advance([{ layer: 0, load: [1, 2, 3, 0.1] }], 1);
    const folder = path.join(root, 'model');
    saveModel(folder, model, { dtype: 'bfloat16' });
    const again = await loadModel(folder, { plugins: [counting] });
    expect(again.routerState.buffers(0)['seen']).toEqual(Float32Array.of(1, 2, 3, 0.1));
    expect(again.parameters.ids()).toEqual(model.parameters.ids());
    for (const one of [model, again]) one.dispose();
  });
});

describe('a folder whose parts are built in but not the usual ones', () => {
  it('opens without anything given', async () => {
    const router = topKRouter(parseGateConfig({ experts: 4, topK: 1, score: 'sigmoid', scale: 2 }));
    const kinds = [plainExpert(), identityExpert()] as const;
    const model = modelOf({ router, experts: ({ expert }) => kinds[expert === 3 ? 1 : 0] });
    const folder = path.join(root, 'model');
    saveModel(folder, model);
    expect(readModelConfig(folder).moebius).toMatchObject({
      routers: [{ name: 'top-k', layers: [0, 2] }],
      experts: [
        { name: 'plain-silu', layers: [0, 2], experts: [0, 1, 2] },
        { name: 'identity', layers: [0, 2], experts: [3] },
      ],
    });
    const again = await loadModel(folder);
    expect(hidden(again)).toEqual(hidden(model));
    for (const one of [model, again]) one.dispose();
  });
});

describe('the moebius section', () => {
  const fields = {
    model_type: 'qwen3_moe',
    vocab_size: 19,
    hidden_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    moe_intermediate_size: 6,
    num_experts: 4,
    num_experts_per_tok: 2,
  };

  it('is hostile input: every fault is told at once', () => {
    const moebius = {
      schemaVersion: 2,
      routers: [{ name: '', options: 3, layers: [-1] }],
      experts: 'all',
    };
    expect(() => parseModelConfig({ ...fields, moebius })).toThrow(
      [
        'config.json: must be a valid configuration, got 5 faults:',
        '  moebius.schemaVersion: must be 1, got 2 (this version reads 1)',
        '  moebius.routers[0].options: must be an object, got 3',
        '  moebius.routers[0].name: must be the name of a part, got ""',
      ].join('\n'),
    );
    expect(() => parseModelConfig({ ...fields, moebius: [] })).toThrow('moebius: must be an object, got []');
    expect(parseModelConfig({ ...fields, moebius: null }).moebius).toBeUndefined();
  });
});
