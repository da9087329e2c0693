import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { createRng, isMoebiusError, runSync } from '@moebius/core';
import { encodeSafetensors, openSharded, type TensorSource } from '@moebius/safetensors';
import { countTensors, disposeTree, readHostSync } from '@moebius/tensor';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { type DecoderModel, loadModel, type LoadModelOptions, saveModel } from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { fixtureNames, readFixture } from './read-fixture.ts';
import { tinyIds, tinyModel } from './tiny-model.ts';

await prepareEngine();

let root = '';
let before = 0;
beforeEach(() => {
  before = countTensors();
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-model-'));
});
afterEach(() => {
  fs.rmSync(root, { recursive: true, force: true });
  expect(countTensors()).toBe(before);
});

const at = (...parts: string[]): string => path.join(root, ...parts);

function parametersOf(model: DecoderModel): { [id: string]: number[] } {
  return Object.fromEntries(
    model.parameters.ids().map((id) => [id, [...readHostSync(model.parameters.read(id))]]),
  );
}

/** Copies a fixture's model with some tensors replaced, added or (undefined) left out. */
function damaged(change: (tensors: Map<string, TensorSource>) => void, config?: object): string {
  const { folder } = readFixture('qwen3-moe-mixed');
  const reader = openSharded(folder);
  const tensors = new Map<string, TensorSource>(
    reader.names().map((name) => {
      const { dtype, shape } = reader.info(name);
      return [name, { name, dtype, shape, bytes: reader.readBytes(name) }];
    }),
  );
  reader.close();
  change(tensors);
  fs.mkdirSync(at('damaged'));
  fs.writeFileSync(at('damaged', 'model.safetensors'), encodeSafetensors([...tensors.values()]));
  const text = fs.readFileSync(path.join(folder, 'config.json'), 'utf8');
  const json = { ...(JSON.parse(text) as object), ...config };
  fs.writeFileSync(at('damaged', 'config.json'), JSON.stringify(json));
  return at('damaged');
}

async function faultOf(folder: string, options: LoadModelOptions = {}): Promise<Error> {
  try {
    (await loadModel(folder, options)).dispose();
  } catch (error) {
    if (isMoebiusError(error)) return error;
    throw error;
  }
  throw new Error('loadModel: expected a fault');
}

describe('saveModel', () => {
  it.each(fixtureNames)('writes the bytes that transformers wrote, %s', async (name) => {
    const { folder } = readFixture(name);
    const model = await loadModel(folder);
    saveModel(at('saved'), model);
    model.dispose();
    const file = 'model.safetensors';
    expect(fs.readFileSync(at('saved', file)).equals(fs.readFileSync(path.join(folder, file)))).toBe(true);
    expect(fs.readdirSync(at('saved')).toSorted()).toEqual(['config.json', 'generation_config.json', file]);
    expect(fs.readdirSync(root)).toEqual(['saved']);
  });

  it('is read back as the same model, whole or in shards', async () => {
    const model = tinyModel({ norm_topk_prob: true, eos_token_id: [3, 4] });
    for (const maxShardBytes of [undefined, 2000]) {
      const result = saveModel(at('saved'), model, maxShardBytes === undefined ? {} : { maxShardBytes });
      expect(result.files.length > 1).toBe(maxShardBytes !== undefined);
      const again = await loadModel(at('saved'));
      expect(again.config).toEqual(model.config);
      expect(parametersOf(again)).toEqual(parametersOf(model));
      again.dispose();
    }
    model.dispose();
  });

  it('keeps what generation_config.json recommends, and takes end-of-text tokens from it', async () => {
    const model = tinyModel({ eos_token_id: 3 });
    expect(model.generation).toEqual({ bos_token_id: null, eos_token_id: 3, pad_token_id: null });
    const generation = { ...model.generation, do_sample: true, temperature: 0.7, top_k: 20, min_p: 0.05 };
    saveModel(at('saved'), model, { generation: { ...generation, eos_token_id: [4, 5] } });
    const again = await loadModel(at('saved'));
    expect(again.generation).toEqual({ ...generation, eos_token_id: [4, 5] });
    expect(again.config.eos_token_id).toBe(3);
    saveModel(at('copy'), again);
    expect(fs.readFileSync(at('copy', 'generation_config.json'), 'utf8')).toBe(
      fs.readFileSync(at('saved', 'generation_config.json'), 'utf8'),
    );
    fs.rmSync(at('copy', 'generation_config.json'));
    const bare = await loadModel(at('copy'));
    expect(bare.generation).toEqual(model.generation);
    for (const open of [model, again, bare]) open.dispose();
  });

  it('refuses a broken generation_config.json before it reads weights', async () => {
    const model = tinyModel();
    saveModel(at('saved'), model);
    model.dispose();
    fs.writeFileSync(at('saved', 'generation_config.json'), '{"top_p": 3, "temperature": "warm"}');
    const fault = await faultOf(at('saved'));
    for (const part of ['generation_config.json', 'top_p', 'temperature']) {
      expect(fault.message).toContain(part);
    }
    fs.writeFileSync(at('saved', 'generation_config.json'), '{"top_p"');
    expect((await faultOf(at('saved'))).message).toContain('must be JSON');
  });

  it('rounds to bfloat16 and float16 when asked', async () => {
    const model = tinyModel();
    for (const [dtype, bits] of [
      ['bfloat16', 8],
      ['float16', 11],
    ] as const) {
      const { totalBytes } = saveModel(at('saved'), model, { dtype });
      const again = await loadModel(at('saved'));
      const exact = parametersOf(model);
      const rounded = parametersOf(again);
      let count = 0;
      for (const [id, values] of Object.entries(exact)) {
        for (const [place, value] of values.entries()) {
          const error = Math.abs((rounded[id]?.[place] ?? NaN) - value);
          expect(error).toBeLessThanOrEqual(Math.abs(value) * 2 ** -bits + 1e-7);
          count += 1;
        }
      }
      expect(totalBytes).toBe(2 * count);
      expect(JSON.parse(fs.readFileSync(at('saved', 'config.json'), 'utf8'))).toMatchObject({
        dtype,
        torch_dtype: dtype,
      });
      again.dispose();
    }
    model.dispose();
  });

  it('replaces a model folder, keeps its other files, and leaves no stale shard', async () => {
    const first = tinyModel({}, 1);
    const second = tinyModel({}, 2);
    saveModel(at('saved'), first, { maxShardBytes: 2000, files: { 'tokenizer.json': '{"old":1}' } });
    fs.writeFileSync(at('saved', 'README.md'), 'mine');
    fs.mkdirSync(at('saved', 'notes'));
    saveModel(at('saved'), second);
    expect(fs.readdirSync(at('saved')).toSorted()).toEqual([
      'README.md',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'notes',
      'tokenizer.json',
    ]);
    saveModel(at('saved'), second, { files: { 'tokenizer.json': '{"new":1}' } });
    expect(fs.readFileSync(at('saved', 'tokenizer.json'), 'utf8')).toBe('{"new":1}');
    const again = await loadModel(at('saved'));
    expect(parametersOf(again)).toEqual(parametersOf(second));
    for (const model of [first, second, again]) model.dispose();
  });

  it('leaves the old folder as it was when writing fails', async () => {
    const model = tinyModel();
    saveModel(at('saved'), model);
    const broken = {
      config: model.config,
      parameters: {
        ...model.parameters,
        read: (id: string) => {
          if (id.includes('layers.2')) throw new Error('engine lost');
          return model.parameters.read(id);
        },
      },
    };
    expect(() => saveModel(at('saved'), broken)).toThrow('engine lost');
    expect(fs.readdirSync(root)).toEqual(['saved']);
    const again = await loadModel(at('saved'));
    expect(parametersOf(again)).toEqual(parametersOf(model));
    again.dispose();
    model.dispose();
  });

  it('does not touch a folder or file that is no model', () => {
    const model = tinyModel();
    fs.mkdirSync(at('home'));
    fs.writeFileSync(at('home', 'letter.txt'), 'dear');
    expect(() => saveModel(at('home'), model)).toThrow('must be new, empty or a model folder');
    expect(() => saveModel(at('home', 'letter.txt'), model)).toThrow('got a file');
    expect(fs.readdirSync(at('home'))).toEqual(['letter.txt']);
    expect(() => saveModel(at('new'), model, { files: { '../escape': 'x' } })).toThrow('plain names');
    expect(() => saveModel(at('new'), model, { files: { 'config.json': 'x' } })).toThrow('plain names');
    model.dispose();
  });

  it('says why a folder cannot be written', () => {
    const model = tinyModel();
    fs.writeFileSync(at('file'), '');
    expect(() => saveModel(at('file', 'inside'), model)).toThrow('must be writable, got');
    model.dispose();
  });
});

describe('loadModel', () => {
  const expertTensor = 'model.layers.2.mlp.experts.5.up_proj.weight';

  it('names a missing expert', async () => {
    const error = await faultOf(damaged((tensors) => tensors.delete(expertTensor)));
    expect(isMoebiusError(error, 'checkpoint')).toBe(true);
    expect(error.message).toContain(`missing 1: ${expertTensor} (pass missing: { initialise: rng }`);
  });

  it('starts missing parameters at random when told to, reproducibly', async () => {
    const folder = damaged((tensors) => tensors.delete(expertTensor));
    const load = (): Promise<DecoderModel> => loadModel(folder, { missing: { initialise: createRng(5) } });
    const [one, two] = [await load(), await load()];
    expect(parametersOf(one)[expertTensor]).toEqual(parametersOf(two)[expertTensor]);
    expect(new Set(parametersOf(one)[expertTensor]).size).toBeGreaterThan(100);
    one.dispose();
    two.dispose();
  });

  it('names tensors it has no place for', async () => {
    const extra: TensorSource = {
      name: 'model.layers.9.mlp.extra',
      dtype: 'F32',
      shape: [1],
      data: Float32Array.of(1),
    };
    const folder = damaged((tensors) => tensors.set(extra.name, extra));
    expect((await faultOf(folder)).message).toContain(
      "unused 1: model.layers.9.mlp.extra (pass unused: 'ignore'",
    );
    (await loadModel(folder, { unused: 'ignore' })).dispose();
  });

  it('names shapes and types that do not fit, all at once', async () => {
    const folder = damaged((tensors) => {
      tensors.set('model.norm.weight', {
        name: 'model.norm.weight',
        dtype: 'F32',
        shape: [31],
        data: new Float32Array(31),
      });
      tensors.set('lm_head.weight', {
        name: 'lm_head.weight',
        dtype: 'I32',
        shape: [64, 32],
        data: new Int32Array(2048),
      });
      tensors.delete(expertTensor);
    });
    const { message } = await faultOf(folder);
    expect(message).toContain('model.norm.weight of shape [31] where [32] is needed');
    expect(message).toContain('lm_head.weight of type I32');
    expect(message).toContain('missing 1');
  });

  it('notices that a configuration of other sizes does not fit', async () => {
    const { message } = await faultOf(
      damaged(() => undefined, { num_local_experts: 6, moe_intermediate_size: 20 }),
    );
    expect(message).toContain('unused');
    expect(message).toContain('[24, 32] where [20, 32] is needed');
  });

  it('refuses NaN weights unless told not to look', async () => {
    const values = new Float32Array(32).fill(1);
    values[7] = NaN;
    const name = 'model.norm.weight';
    const folder = damaged((tensors) => tensors.set(name, { name, dtype: 'F32', shape: [32], data: values }));
    expect((await faultOf(folder)).message).toContain('model.norm.weight must be finite, got NaN at 7');
    (await loadModel(folder, { checkFinite: false })).dispose();
  });

  it('refuses other families, broken JSON, truncated weights and empty folders', async () => {
    expect((await faultOf(damaged(() => undefined, { model_type: 'mixtral' }))).message).toContain(
      'must be one of qwen3_moe',
    );
    fs.writeFileSync(at('damaged', 'config.json'), '{"model_type": "qwen');
    expect((await faultOf(at('damaged'))).message).toContain('must be JSON');
    const { folder } = readFixture('qwen3-moe-mixed');
    fs.copyFileSync(path.join(folder, 'config.json'), at('damaged', 'config.json'));
    fs.truncateSync(at('damaged', 'model.safetensors'), 200_000);
    expect(isMoebiusError(await faultOf(at('damaged')), 'format')).toBe(true);
    expect((await faultOf(at('nowhere'))).message).toContain('must hold a readable config.json, got ENOENT');
    fs.rmSync(at('damaged', 'model.safetensors'));
    expect((await faultOf(at('damaged'))).message).toContain('model.safetensors');
    fs.writeFileSync(at('damaged', 'config.json'), ' '.repeat(2_000_000));
    expect(isMoebiusError(await faultOf(at('damaged')), 'limit')).toBe(true);
  });

  it('reads experts that transformers 5 left fused', async () => {
    const plain = await loadModel(readFixture('qwen3-moe-mixed').folder);
    const folder = damaged((tensors) => {
      for (const layer of [0, 2]) fuseLayer(tensors, layer);
    });
    const fused = await loadModel(folder);
    expect(parametersOf(fused)).toEqual(parametersOf(plain));
    fused.dispose();
    plain.dispose();
  });

  it('ignores the head of a tied model and rotary buffers', async () => {
    const model = tinyModel({ tie_word_embeddings: true });
    saveModel(at('saved'), model);
    const reader = openSharded(at('saved'));
    const extra = [
      ['lm_head.weight', [19, 8]],
      ['model.layers.0.self_attn.rotary_emb.inv_freq', [2]],
    ] as const;
    const tensors: TensorSource[] = reader.names().map((name) => {
      const { dtype, shape } = reader.info(name);
      return { name, dtype, shape, bytes: reader.readBytes(name) };
    });
    reader.close();
    for (const [name, shape] of extra) {
      tensors.push({
        name,
        dtype: 'F32',
        shape,
        data: new Float32Array(shape.reduce<number>((a, b) => a * b, 1)),
      });
    }
    fs.writeFileSync(at('saved', 'model.safetensors'), encodeSafetensors(tensors));
    (await loadModel(at('saved'))).dispose();
    model.dispose();
  });

  it('gives a model that can be trained', async () => {
    const model = await loadModel(readFixture('qwen3-moe-tied').folder);
    const ids = tinyIds(24, 64);
    const targets = Int32Array.of(...ids.subarray(1), -1);
    const losses: number[] = [];
    for (let step = 0; step < 8; step += 1) {
      const { total, saved } = runSync(model.loss({ ids, targets, batch: 2 }));
      losses.push(total);
      if (saved === null) throw new Error('nothing saved');
      const gradients = runSync(model.backward(saved));
      model.parameters.update(gradients, { optimizer: { lr: 1e-2 } });
      disposeTree(gradients);
    }
    expect(losses.at(-1)).toBeLessThan(0.7 * (losses[0] ?? 0));
    model.dispose();
  });
});

/** Puts a layer's experts into `gate_up_proj` `[E, 2F, D]` and `down_proj` `[E, D, F]`. */
function fuseLayer(tensors: Map<string, TensorSource>, layer: number): void {
  const prefix = `model.layers.${layer}.mlp.experts`;
  const take = (name: string): Uint8Array => {
    const source = tensors.get(name);
    tensors.delete(name);
    return (source as unknown as { bytes: Uint8Array }).bytes;
  };
  const experts = Array.from({ length: 8 }, (_, expert) => expert);
  const gateUp = experts.flatMap((e) => [
    take(`${prefix}.${e}.gate_proj.weight`),
    take(`${prefix}.${e}.up_proj.weight`),
  ]);
  const down = experts.map((e) => take(`${prefix}.${e}.down_proj.weight`));
  const add = (part: string, shape: number[], pieces: readonly Uint8Array[]): void => {
    const name = `${prefix}.${part}`;
    tensors.set(name, { name, dtype: 'F32', shape, bytes: Buffer.concat(pieces) });
  };
  add('gate_up_proj', [8, 48, 32], gateUp);
  add('down_proj', [8, 32, 24], down);
}

it('keeps the tensors of a loaded model after its file is gone', async () => {
  const model = tinyModel();
  saveModel(at('saved'), model);
  const again = await loadModel(at('saved'));
  fs.rmSync(at('saved'), { recursive: true });
  expect(parametersOf(again)).toEqual(parametersOf(model));
  again.dispose();
  model.dispose();
});
