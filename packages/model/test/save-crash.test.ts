/** A model folder that is replaced: what is there when the process is killed before any of its file-system calls. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { openSharded } from '@moebius/safetensors';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import {
  type DecoderModel,
  loadModel,
  readModelConfig,
  recoverModelFolder,
  saveModel,
  type SaveModelOptions,
} from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyModel } from './tiny-model.ts';

await prepareEngine();

let root = '';
let target = '';
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-crash-'));
  target = path.join(root, 'model');
});
afterEach(() => {
  vi.restoreAllMocks();
  fs.rmSync(root, { recursive: true, force: true });
});

/** Calls that change what is on the disk, or make it durable. */
const changing = [
  'openSync',
  'writeSync',
  'writeFileSync',
  'fsyncSync',
  'closeSync',
  'renameSync',
  'mkdirSync',
  'mkdtempSync',
  'rmSync',
  'cpSync',
] as const;

/** Does `look` before every such call; when it says so, this call and all later ones do nothing but throw. */
function watchCalls(look: (call: string, index: number) => unknown): void {
  let isDead = false;
  let index = 0;
  let isLooking = false;
  for (const name of changing) {
    const real = fs[name] as (...parameters: unknown[]) => unknown;
    vi.spyOn(fs, name).mockImplementation(((...parameters: unknown[]): unknown => {
      if (isLooking) return real(...parameters);
      isLooking = true;
      isDead ||= look(`${name} ${path.basename(String(parameters[0]))}`, index) === 'die';
      isLooking = false;
      index += 1;
      if (isDead) throw new Error('killed');
      // Power failures are not the subject here, and a sync costs more than all the rest.
      return name === 'fsyncSync' ? undefined : real(...parameters);
    }) as never);
  }
}

function callsOf(save: () => void): string[] {
  const calls: string[] = [];
  watchCalls((call) => void calls.push(call));
  save();
  vi.restoreAllMocks();
  return calls;
}

/** Configuration and every stored tensor of a model folder, by hash; what an interrupted replacement left is mended. */
function contentOf(folder: string): string {
  recoverModelFolder(folder);
  const reader = openSharded(folder);
  try {
    const hash = createHash('sha256').update(JSON.stringify(readModelConfig(folder)));
    for (const name of reader.names().toSorted()) hash.update(name).update(reader.readBytes(name));
    return hash.digest('hex');
  } finally {
    reader.close();
  }
}

interface Case {
  readonly models: () => DecoderModel[];
  readonly options: readonly [SaveModelOptions, SaveModelOptions];
}

const cases: { readonly [name: string]: Case } = {
  'the same configuration': { models: () => [tinyModel({}, 1), tinyModel({}, 2)], options: [{}, {}] },
  'the same configuration, shards over shards': {
    models: () => [tinyModel({}, 1), tinyModel({}, 2)],
    options: [{ maxShardBytes: 20_000 }, { maxShardBytes: 30_000 }],
  },
  'the same configuration, one file over shards': {
    models: () => [tinyModel({}, 1), tinyModel({}, 2)],
    options: [{ maxShardBytes: 20_000 }, {}],
  },
  'another configuration': {
    models: () => [tinyModel({}, 1), tinyModel({ norm_topk_prob: true, rope_theta: 5000 }, 2)],
    options: [{}, { files: { 'tokenizer.json': '{"new":1}' } }],
  },
};

describe.each(Object.entries(cases))('saving over a model of %s', (_, { models: make, options }) => {
  let models: DecoderModel[] = [];
  const [before, after] = options;
  beforeEach(() => (models = make()));
  afterEach(() => models.forEach((model) => model.dispose()));
  const saveFirst = (): void => {
    saveModel(target, models[0]!, before);
    fs.writeFileSync(path.join(target, 'README.md'), 'mine');
  };

  it('leaves one of them whole when it is killed anywhere, and the next save tidies up', async () => {
    saveFirst();
    const contents = [contentOf(target)];
    const total = callsOf(() => saveModel(target, models[1]!, after)).length;
    expect(total).toBeGreaterThan(6);
    contents.push(contentOf(target));
    const tidy = [fs.readdirSync(root), fs.readdirSync(target).toSorted()];
    const seen: number[] = [];
    for (let at = 0; at < total; at += 1) {
      fs.rmSync(root, { recursive: true });
      saveFirst();
      watchCalls((_call, index) => (index === at ? 'die' : undefined));
      try {
        saveModel(target, models[1]!, after);
      } catch (error) {
        expect((error as Error).message).toContain('killed');
      }
      vi.restoreAllMocks();
      seen.push(contents.indexOf(contentOf(target)));
      expect(fs.readFileSync(path.join(target, 'README.md'), 'utf8')).toBe('mine');
      saveModel(target, models[1]!, after);
      expect(contentOf(target)).toBe(contents[1]);
      // Shards take the free generation of their names; how many there are, and nothing else, is what matters.
      const names = fs.readdirSync(target).map((name) => name.replace(/^model-g\d+-/, 'model-'));
      expect([fs.readdirSync(root), names.toSorted()]).toEqual([
        tidy[0],
        tidy[1]?.map((name) => name.replace(/^model-g\d+-/, 'model-')).toSorted(),
      ]);
    }
    // One commit: the old model up to some call, the new one from there on.
    expect(seen).toEqual(seen.toSorted());
    expect(new Set(seen)).toEqual(new Set([0, 1]));
    (await loadModel(target)).dispose();
  });

  it('shows a reader one whole model before each of its calls', () => {
    saveFirst();
    const [old, young] = models.map(({ config }) => JSON.stringify(config));
    const read: string[] = [];
    let isMissing = 0;
    watchCalls((call) => {
      // As others read, who know nothing of us: a folder that is not there is no model, but never half of one.
      if (!fs.existsSync(target)) isMissing += 1;
      else if (!fs.existsSync(path.join(target, 'config.json')))
        throw new Error(`half a model before ${call}`);
      read.push(JSON.stringify(readModelConfig(target)));
    });
    saveModel(target, models[1]!, after);
    vi.restoreAllMocks();
    expect(isMissing).toBe(old === young ? 0 : 1);
    expect(new Set(read)).toEqual(new Set([old, young]));
  });
});
