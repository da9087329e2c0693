import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { isMoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import {
  createSafetensorsWriter,
  encodeSafetensors,
  openSafetensors,
  parseSafetensors,
  planLayout,
  type TensorSource,
  writeSafetensors,
} from '../src/index.ts';
import { type Files, ModelFileSystem, type ModelOptions } from './model-file-system.ts';

let folder = '';
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-writer-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

const vector = (name: string, ...values: number[]): TensorSource => ({
  name,
  dtype: 'F32',
  shape: [values.length],
  data: Float32Array.from(values),
});

describe('planLayout', () => {
  const spec = fc.record({
    name: fc.string({ unit: 'binary', maxLength: 6 }).filter((name) => name !== '__metadata__'),
    dtype: fc.constantFrom('F32', 'BF16', 'U8', 'I64', 'BOOL', 'C64', 'F16'),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
  });
  const specs = fc.uniqueArray(spec, { selector: ({ name }) => name, maxLength: 8 });
  const sizes: Readonly<Record<string, number>> = { F32: 4, BF16: 2, U8: 1, I64: 8, BOOL: 1, C64: 4, F16: 2 };

  it('aligns every tensor, pads the header to a multiple of 8 and can be read again', () => {
    fc.assert(
      fc.property(specs, (list) => {
        const { header, tensors, fileSize } = planLayout(list as never, { metadata: { format: 'pt' } });
        expect(header.byteLength % 8).toBe(0);
        for (const { dtype, begin } of tensors)
          expect((header.byteLength + begin) % (sizes[dtype] ?? 1)).toBe(0);
        const file = new Uint8Array(fileSize);
        file.set(header);
        const read = parseSafetensors(file);
        expect(read.names()).toEqual(tensors.map(({ name }) => name));
        for (const { name, dtype, shape } of list)
          expect(read.info(name)).toMatchObject({ name, dtype, shape });
      }),
    );
  });

  it('does not depend on the order of the tensors', () => {
    fc.assert(
      fc.property(specs, (list) => {
        expect(planLayout(list.toReversed() as never).header).toEqual(planLayout(list as never).header);
      }),
    );
  });

  it.each([
    [[vector('a'), vector('a')], 'names must be unique, got "a"'],
    [[vector('__metadata__')], 'not be the reserved one'],
    [[vector('\ud800')], 'be valid Unicode'],
    [[{ name: 'x', dtype: 'F4', shape: [3] }], 'safe size in whole bytes, got F4 [3]'],
    [[{ name: 'x', dtype: 'F99', shape: [3] }], 'must have a known type'],
    [[{ name: 'x', dtype: 'F32', shape: [-1] }], 'safe size'],
  ])('refuses %j', (list, message) => {
    expect(() => planLayout(list as never)).toThrow(message);
  });

  it('refuses metadata that is no text', () => {
    expect(() => planLayout([], { metadata: { step: 1 as unknown as string } })).toThrow(
      'metadata "step" must be valid Unicode text, got number',
    );
    expect(() => planLayout([], { metadata: { x: '\udfff' } })).toThrow('metadata "x"');
  });
});

describe('writeSafetensors', () => {
  it('writes what openSafetensors reads, with the mode that the umask gives', () => {
    const file = path.join(folder, 'a.safetensors');
    const size = writeSafetensors(file, [vector('b', 1, 2), vector('a', 3)], { metadata: { format: 'pt' } });
    expect(fs.statSync(file).size).toBe(size);
    const reader = openSafetensors(file);
    expect(reader.read('b').data).toEqual(Float32Array.of(1, 2));
    expect(reader.metadata.get('format')).toBe('pt');
    reader.close();
    const plain = path.join(folder, 'plain');
    fs.writeFileSync(plain, '');
    expect(fs.statSync(file).mode).toBe(fs.statSync(plain).mode);
    expect(fs.readdirSync(folder).toSorted()).toEqual(['a.safetensors', 'plain']);
  });

  it('can be given a tensor only when its turn has come, once', () => {
    const asked: string[] = [];
    const lazy = (name: string, dtype: 'F32' | 'U8'): TensorSource => ({
      name,
      dtype,
      shape: [1],
      content: () => {
        asked.push(name);
        return { bytes: new Uint8Array(dtype === 'F32' ? 4 : 1) };
      },
    });
    writeSafetensors(path.join(folder, 'a'), [lazy('small', 'U8'), lazy('large', 'F32')]);
    expect(asked).toEqual(['large', 'small']);
  });

  it('may write over the very file its tensors are read from, and the open reader keeps the old content', () => {
    const file = path.join(folder, 'a.safetensors');
    writeSafetensors(file, [vector('x', 1, 2, 3)]);
    const reader = openSafetensors(file);
    writeSafetensors(file, [
      { name: 'x', dtype: 'F32', shape: [3], content: () => ({ bytes: reader.readBytes('x') }) },
      vector('y', 9),
    ]);
    expect(reader.read('x').data).toEqual(Float32Array.of(1, 2, 3));
    expect(reader.has('y')).toBe(false);
    reader.close();
    const again = openSafetensors(file);
    expect(again.read('x').data).toEqual(Float32Array.of(1, 2, 3));
    expect(again.read('y').data).toEqual(Float32Array.of(9));
    again.close();
  });

  it('leaves the old file and nothing else when a tensor cannot be encoded or read', () => {
    const file = path.join(folder, 'a.safetensors');
    writeSafetensors(file, [vector('x', 1)]);
    const before = fs.readFileSync(file);
    expect(() =>
      writeSafetensors(file, [{ name: 'x', dtype: 'I32', shape: [1], data: Float32Array.of(1) }]),
    ).toThrow('tensor "x"');
    expect(() =>
      writeSafetensors(file, [{ name: 'x', dtype: 'F32', shape: [2], bytes: new Uint8Array(4) }]),
    ).toThrow('must have 8 bytes, got 4');
    const broken = (): never => {
      throw new Error('source lost');
    };
    expect(() => writeSafetensors(file, [{ name: 'x', dtype: 'F32', shape: [1], content: broken }])).toThrow(
      'source lost',
    );
    expect(fs.readFileSync(file).equals(before)).toBe(true);
    expect(fs.readdirSync(folder)).toEqual(['a.safetensors']);
  });

  it('says what to do when the folder is missing', () => {
    try {
      writeSafetensors(path.join(folder, 'none/a.safetensors'), []);
      expect.unreachable();
    } catch (error) {
      expect(isMoebiusError(error, 'io')).toBe(true);
      expect(String(error)).toMatch(/a\.safetensors: must be creatable, got ENOENT \(check the path\)/);
    }
  });

  it('finds another temporary name beside the leftover of a crash', () => {
    const file = path.join(folder, 'a');
    fs.writeFileSync(path.join(folder, '.a.0.tmp'), 'leftover');
    writeSafetensors(file, [vector('x', 1)]);
    expect(fs.readdirSync(folder).toSorted()).toEqual(['.a.0.tmp', 'a']);
  });
});

describe('createSafetensorsWriter', () => {
  it('takes tensors in any order and shows the file at commit only', () => {
    const file = path.join(folder, 'a');
    const tensors = [vector('a', 1), vector('b', 2), vector('c', 3)];
    const writer = createSafetensorsWriter(file, tensors);
    for (const tensor of tensors.toReversed()) if ('data' in tensor) writer.write(tensor.name, tensor);
    expect(fs.existsSync(file)).toBe(false);
    writer.commit();
    expect(Buffer.compare(fs.readFileSync(file), encodeSafetensors(tensors))).toBe(0);
  });

  it('refuses unplanned, doubled and missing tensors, and calls after the end', () => {
    const file = path.join(folder, 'a');
    const writer = createSafetensorsWriter(file, [vector('a', 1), vector('b', 2)]);
    writer.write('a', { data: Float32Array.of(1) });
    expect(() => writer.write('a', { data: Float32Array.of(1) })).toThrow('got "a" unplanned or again');
    expect(() => writer.write('z', { data: Float32Array.of(1) })).toThrow('got "z" unplanned or again');
    expect(() => writer.commit()).toThrow('got 1 missing: "b"');
    expect(fs.readdirSync(folder)).toEqual([]);
    expect(() => writer.write('b', { data: Float32Array.of(1) })).toThrow('must be open to be written');
    writer.abort();
    const other = createSafetensorsWriter(file, [vector('a', 1)]);
    other.abort();
    other.abort();
    expect(fs.readdirSync(folder)).toEqual([]);
  });
});

describe('failures at every call', () => {
  const target = '/models/a.safetensors';
  const oldFile = encodeSafetensors([vector('x', 1, 2, 3)]);
  const tensors = [vector('x', 4, 5), vector('y', 6), vector('z', 7)];
  const newFile = encodeSafetensors(tensors);
  const before: Files = new Map([[target, oldFile]]);
  const isFile = (bytes: Uint8Array | undefined, file: Uint8Array): boolean =>
    bytes !== undefined && Buffer.compare(bytes, file) === 0;

  function run(
    options: ModelOptions,
    files: Files = before,
  ): { fileSystem: ModelFileSystem; error: unknown } {
    const fileSystem = new ModelFileSystem(files, { writeBytes: 50, ...options });
    try {
      writeSafetensors(target, tensors, { fileSystem });
      return { fileSystem, error: undefined };
    } catch (error) {
      return { fileSystem, error };
    }
  }

  const calls = run({}).fileSystem.calls;
  const points = calls.map((call, at) => ({ at, call }));

  it('syncs the content before the rename and the folder after it', () => {
    expect(calls.filter((call) => !call.startsWith('write'))).toEqual([
      'create .a.safetensors.0.tmp',
      'sync',
      'close',
      'rename a.safetensors',
      'sync folder',
    ]);
    expect(calls.filter((call) => call.startsWith('write')).length).toBeGreaterThan(5);
    expect(isFile(run({}).fileSystem.files().get(target), newFile)).toBe(true);
  });

  it.each(points)(
    'ENOSPC at call $at ($call): an error with the code, the old file, no leftovers',
    ({ at, call }) => {
      const { fileSystem, error } = run({ failAt: at, mode: 'ENOSPC' });
      expect(isMoebiusError(error, 'io') && error.details['code']).toBe('ENOSPC');
      expect(String(error)).toContain('(free some space)');
      expect([...fileSystem.files().keys()]).toEqual([target]);
      expect(isFile(fileSystem.files().get(target), call === 'sync folder' ? newFile : oldFile)).toBe(true);
      expect(fileSystem.openHandles()).toBe(0);
    },
  );

  it.each(points)(
    'a power failure at call $at ($call) leaves the old file or the new one, whole',
    ({ at }) => {
      const views = run({ failAt: at, mode: 'crash' }).fileSystem.afterPowerFailure();
      for (const view of views) {
        const bytes = view.get(target);
        expect(isFile(bytes, oldFile) || isFile(bytes, newFile)).toBe(true);
      }
      for (const view of run({ failAt: at, mode: 'crash' }, new Map()).fileSystem.afterPowerFailure()) {
        const bytes = view.get(target);
        expect(bytes === undefined || isFile(bytes, newFile)).toBe(true);
      }
    },
  );

  it('is durable when it returns', () => {
    for (const view of run({}).fileSystem.afterPowerFailure())
      expect(isFile(view.get(target), newFile)).toBe(true);
  });

  it('would be caught by these tests if it did not sync (a disk that lies leaves torn files)', () => {
    const torn = points.some(({ at }) =>
      run({ failAt: at, mode: 'crash', syncsNothing: true })
        .fileSystem.afterPowerFailure()
        .some((view) => !isFile(view.get(target), oldFile) && !isFile(view.get(target), newFile)),
    );
    expect(torn).toBe(true);
  });

  it('stops when a write makes no progress', () => {
    const { error } = run({ writeBytes: 0 });
    expect(String(error)).toContain('a write of 0 bytes');
  });
});
