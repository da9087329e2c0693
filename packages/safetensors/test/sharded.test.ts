import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { isMoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import {
  encodeSafetensors,
  openSharded,
  parseSafetensors,
  parseShardIndex,
  planShards,
  type TensorSource,
  writeSafetensors,
  writeShardedSafetensors,
} from '../src/index.ts';
import { type Files, ModelFileSystem, type ModelOptions } from './model-file-system.ts';

let folder = '';
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-sharded-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

const vector = (name: string, ...values: number[]): TensorSource => ({
  name,
  dtype: 'F32',
  shape: [values.length],
  data: Float32Array.from(values),
});
const tensors = [vector('c', 1, 2), vector('a', 3), vector('b', 4, 5, 6, 7)];
const list = (): string[] => fs.readdirSync(folder).toSorted();

describe('planShards', () => {
  it('keeps every tensor once, in order, within the bound unless it is alone', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 9 })), fc.integer({ min: 1, max: 40 }), (lengths, bound) => {
        const specs = lengths.map((length, at) => ({
          name: `t${at}`,
          dtype: 'F32' as const,
          shape: [length],
        }));
        const shards = planShards(specs, bound);
        expect(shards.flatMap((shard) => shard.tensors)).toEqual(specs);
        for (const shard of shards) {
          expect(shard.byteLength).toBe(
            shard.tensors.reduce((sum, { shape }) => sum + 4 * (shape[0] ?? 0), 0),
          );
          expect(
            shard.byteLength <= bound ||
              shard.tensors.filter(({ shape }) => (shape[0] ?? 0) > 0).length === 1,
          ).toBe(true);
        }
      }),
    );
  });

  it.each([0, -1, NaN])('refuses the bound %s', (bound) => {
    expect(() => planShards([], bound)).toThrow('maxShardBytes: must be more than 0');
  });
});

describe('writeShardedSafetensors', () => {
  it('writes one file without an index when everything fits', () => {
    const result = writeShardedSafetensors(path.join(folder, 'new/model'), tensors, {
      metadata: { format: 'pt' },
    });
    expect(result).toEqual({ files: ['model.safetensors'], totalBytes: 28 });
    const reader = openSharded(path.join(folder, 'new/model'));
    expect(reader.read('b').data).toEqual(Float32Array.of(4, 5, 6, 7));
    expect(reader.metadata.get('format')).toBe('pt');
    reader.close();
  });

  it('writes shards and an index with the names and fields of Hugging Face', () => {
    const result = writeShardedSafetensors(folder, tensors, {
      maxShardBytes: 12,
      metadata: { format: 'pt' },
    });
    expect(result).toEqual({
      files: ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'],
      index: 'model.safetensors.index.json',
      totalBytes: 28,
    });
    expect(fs.readFileSync(path.join(folder, 'model.safetensors.index.json'), 'utf8')).toMatchInlineSnapshot(`
      "{
        "metadata": {
          "total_size": 28
        },
        "weight_map": {
          "a": "model-00001-of-00002.safetensors",
          "b": "model-00002-of-00002.safetensors",
          "c": "model-00001-of-00002.safetensors"
        }
      }
      "
    `);
    expect(list()).toEqual([...result.files, 'model.safetensors.index.json']);
    const reader = openSharded(folder);
    expect(reader.names()).toEqual(['a', 'c', 'b']);
    expect(reader.fileOf('b')).toBe(path.join(folder, 'model-00002-of-00002.safetensors'));
    expect(reader.read('c').data).toEqual(Float32Array.of(1, 2));
    reader.close();
  });

  it('replaces any model by any other and leaves only the new one', () => {
    const write = (bound: number, values: readonly TensorSource[]): void => {
      writeShardedSafetensors(folder, values, { maxShardBytes: bound });
      const reader = openSharded(folder);
      expect(reader.names().toSorted()).toEqual(values.map(({ name }) => name).toSorted());
      expect(reader.files.map((file) => path.basename(file)).toSorted()).toEqual(
        list().filter((name) => !name.endsWith('.json')),
      );
      reader.close();
    };
    write(100, tensors);
    write(12, tensors);
    write(12, [vector('x', 1), vector('y', 1, 2, 3)]);
    write(4, tensors);
    write(100, [vector('z', 1)]);
    expect(list()).toEqual(['model.safetensors']);
    write(100, []);
  });

  it('asks for each tensor once, when its turn has come', () => {
    let asked = 0;
    const lazy = tensors.map(({ name, dtype, shape }) => ({
      name,
      dtype,
      shape,
      content: () => {
        asked += 1;
        return { data: new Float32Array(shape[0] ?? 0) };
      },
    }));
    writeShardedSafetensors(folder, lazy, { maxShardBytes: 8 });
    expect(asked).toBe(3);
  });

  it('refuses a name that would be in two shards', () => {
    expect(() =>
      writeShardedSafetensors(folder, [vector('a', 1), vector('a', 1)], { maxShardBytes: 4 }),
    ).toThrow('must be unique, got "a" twice');
    expect(list()).toEqual([]);
  });
});

describe('openSharded', () => {
  const shard = (name: string, ...values: TensorSource[]): void => {
    writeSafetensors(path.join(folder, name), values);
  };
  const index = (content: unknown): string => {
    const file = path.join(folder, 'model.safetensors.index.json');
    fs.writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    return file;
  };
  const failure = (location = folder): { code: string; message: string } => {
    try {
      openSharded(location).close();
    } catch (error) {
      if (isMoebiusError(error)) return error;
      throw error;
    }
    throw new Error('nothing was thrown');
  };

  it('takes a folder, an index or a file', () => {
    shard('one.safetensors', vector('a', 1));
    const file = index({
      metadata: { total_size: 4, nested: { list: [1, null, true] } },
      weight_map: { a: 'one.safetensors' },
    });
    for (const location of [folder, file, path.join(folder, 'one.safetensors')]) {
      const reader = openSharded(location);
      expect(reader.read('a').data).toEqual(Float32Array.of(1));
      expect(reader.has('b')).toBe(false);
      expect(() => reader.read('b')).toThrow('tensor must be one of its 1, got "b"');
      reader.close();
      expect(() => reader.read('a')).toThrow('got a closed file');
    }
  });

  it('reads through every method of a single reader, not blocking as well', async () => {
    writeShardedSafetensors(folder, tensors, { maxShardBytes: 12 });
    const reader = openSharded(folder);
    expect((await reader.readAsync('c')).data).toEqual(Float32Array.of(1, 2));
    expect(await reader.readBytesAsync('a')).toEqual(reader.readBytes('a'));
    expect(reader.readSlice('b', { start: 1, end: 3 }).data).toEqual(Float32Array.of(5, 6));
    expect((await reader.readSliceAsync('b', { start: 3, end: 4 })).data).toEqual(Float32Array.of(7));
    await expect(reader.readAsync('zz')).rejects.toThrow('got "zz"');
    expect(reader.info('b').shape).toEqual([4]);
    await reader[Symbol.asyncDispose]();
  });

  it.each([
    '../secret.safetensors',
    '/etc/x.safetensors',
    'a/b.safetensors',
    'a\\b.safetensors',
    'C:x.safetensors',
    '..safetensors',
    '.safetensors',
    'x.safetensors\u0000',
    'model.bin',
    '',
    `${'x'.repeat(300)}.safetensors`,
  ])('refuses the shard name %j', (name) => {
    index({ weight_map: { a: name } });
    expect(failure()).toMatchObject({ code: 'format' });
    expect(failure().message).toContain('a shard must be a plain .safetensors file name beside the index');
  });

  it.each<[string, string, RegExp]>([
    ['broken JSON', '{"weight_map":{', /must have a string, got the end/],
    ['no weight map', '{"metadata":{}}', /must have a weight_map, got none/],
    ['a list', '[]', /must have an object/],
    ['a number as a shard', '{"weight_map":{"a":1}}', /must have a string/],
    [
      'a tensor twice',
      '{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}',
      /keys must be unique, got "a" twice/,
    ],
    ['two weight maps', '{"weight_map":{},"weight_map":{}}', /unique/],
    ['bottomless metadata', `{"metadata":${'['.repeat(100_000)}`, /must nest at most 16 deep/],
    ['text after the end', '{"weight_map":{}}x', /must end after its object/],
  ])('refuses an index with %s', (_, text, message) => {
    index(text);
    expect(failure().message).toMatch(message);
  });

  it('lists the shards that are missing', () => {
    shard('one.safetensors', vector('a', 1));
    index({ weight_map: { a: 'one.safetensors', b: 'two.safetensors', c: 'three.safetensors' } });
    expect(failure()).toMatchObject({ code: 'io' });
    expect(failure().message).toContain(
      'all 3 files must be there, got 2 missing: two.safetensors, three.safetensors',
    );
  });

  it('refuses an index and shards that disagree, in either direction', () => {
    shard('one.safetensors', vector('a', 1), vector('b', 2));
    index({ weight_map: { a: 'one.safetensors' } });
    expect(failure().message).toContain(
      'every tensor of a shard must be in the index, got 1 unlisted: "b" in one.safetensors',
    );
    index({ weight_map: { a: 'one.safetensors', b: 'one.safetensors', c: 'one.safetensors' } });
    expect(failure().message).toContain(
      'must be in the shard the index names, got 1 absent: "c" in one.safetensors',
    );
    shard('two.safetensors', vector('b', 3));
    index({ weight_map: { a: 'one.safetensors', b: 'two.safetensors' } });
    expect(failure().message).toContain('got 1 unlisted: "b" in one.safetensors');
  });

  it('refuses a shard that is no safetensors file, naming it', () => {
    fs.writeFileSync(path.join(folder, 'one.safetensors'), 'not a model');
    index({ weight_map: { a: 'one.safetensors' } });
    expect(failure().message).toContain('one.safetensors: header must fit');
  });

  it('keeps its limits', () => {
    const many = { weight_map: { a: '1.safetensors', b: '2.safetensors' } };
    const bytes = Buffer.from(JSON.stringify(many));
    expect(() => parseShardIndex(bytes, { limits: { shards: 1 } })).toThrow('must have at most 1 shards');
    expect(() => parseShardIndex(bytes, { limits: { indexBytes: 10 } })).toThrow(
      'must have at most 10 bytes',
    );
    const file = index(many);
    expect(() => openSharded(file, { limits: { indexBytes: 10 } })).toThrow('must have at most 10 bytes');
  });

  it('says what a folder must hold', () => {
    expect(failure().message).toContain(
      'must hold model.safetensors or model.safetensors.index.json, got neither',
    );
    expect(failure(path.join(folder, 'none')).message).toContain('ENOENT');
  });
});

describe('a power failure or an error at every call of a replacement', () => {
  const oldModel = [vector('x', 1), vector('y', 2, 3)];
  const newModel = [vector('x', 9, 9), vector('w', 8)];

  /** What a reader finds: every tensor with its bytes, or why it cannot read. */
  function load(files: Files): string {
    const read = (name: string): [string, string][] => {
      const bytes = files.get(path.join('/m', name));
      if (bytes === undefined) throw new Error(`${name} is missing`);
      const file = parseSafetensors(bytes);
      return file.names().map((tensor) => [tensor, Buffer.from(file.readBytes(tensor)).toString('hex')]);
    };
    const index = files.get('/m/model.safetensors.index.json');
    const shards =
      files.has('/m/model.safetensors') || index === undefined
        ? ['model.safetensors']
        : parseShardIndex(index).shards;
    return JSON.stringify(shards.flatMap(read).toSorted());
  }

  const contentOf = (model: readonly TensorSource[]): string =>
    load(new Map([['/m/model.safetensors', encodeSafetensors(model)]]));

  function run(
    files: Files,
    bound: number,
    options: ModelOptions,
  ): { fileSystem: ModelFileSystem; error: unknown } {
    const fileSystem = new ModelFileSystem(files, options);
    try {
      writeShardedSafetensors('/m', newModel, { maxShardBytes: bound, fileSystem });
      return { fileSystem, error: undefined };
    } catch (error) {
      return { fileSystem, error };
    }
  }

  it.each([
    ['one file by one file', 100, 100],
    ['one file by shards', 100, 8],
    ['shards by one file', 8, 100],
    ['shards by shards', 8, 8],
  ])('%s: the old model or the new one, whole', (_, oldBound, newBound) => {
    const first = new ModelFileSystem(new Map());
    writeShardedSafetensors('/m', oldModel, { maxShardBytes: oldBound, fileSystem: first });
    const before = first.files();
    const [oldContent, newContent] = [contentOf(oldModel), contentOf(newModel)];
    expect(load(before)).toBe(oldContent);
    const whole = run(before, newBound, {});
    expect(whole.error).toBeUndefined();
    expect(load(whole.fileSystem.files())).toBe(newContent);
    let views = 0;
    for (const at of whole.fileSystem.calls.keys()) {
      for (const view of run(before, newBound, {
        failAt: at,
        mode: 'crash',
      }).fileSystem.afterPowerFailure()) {
        views += 1;
        expect([oldContent, newContent]).toContain(load(view));
      }
      const { fileSystem, error } = run(before, newBound, { failAt: at, mode: 'ENOSPC' });
      expect(isMoebiusError(error, 'io')).toBe(true);
      expect([oldContent, newContent]).toContain(load(fileSystem.files()));
      expect([...fileSystem.files().keys()].filter((name) => name.endsWith('.tmp'))).toEqual([]);
      expect(fileSystem.openHandles()).toBe(0);
    }
    expect(views).toBeGreaterThan(30);
  });
});
