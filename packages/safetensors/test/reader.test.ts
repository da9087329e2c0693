import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { isMoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import {
  encodeSafetensors,
  openSafetensors,
  parseSafetensors,
  type TensorReader,
  type TensorSource,
} from '../src/index.ts';

const matrix: TensorSource = {
  name: 'layers.0.weight',
  dtype: 'BF16',
  shape: [4, 3],
  data: Float32Array.from({ length: 12 }, (_, at) => at),
};
const packed: TensorSource = {
  name: 'packed',
  dtype: 'F4',
  shape: [2, 3],
  bytes: Uint8Array.of(0x10, 0x32, 0x54),
};
const scalar: TensorSource = { name: 'scalar', dtype: 'F32', shape: [], data: Float32Array.of(7) };
const empty: TensorSource = { name: 'empty', dtype: 'F32', shape: [5, 0], data: new Float32Array() };
const wide: TensorSource = {
  name: 'wide',
  dtype: 'F64',
  shape: [2],
  bytes: new Uint8Array(Float64Array.of(0.1, 2).buffer),
};
const bytes = encodeSafetensors([matrix, packed, scalar, empty, wide], { metadata: { format: 'pt' } });

let folder = '';
let file = '';
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-reader-'));
  file = path.join(folder, 'a.safetensors');
  fs.writeFileSync(file, bytes);
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

describe.each<[string, () => TensorReader]>([
  ['openSafetensors', () => openSafetensors(file)],
  ['parseSafetensors', () => parseSafetensors(bytes)],
])('%s', (_, open) => {
  it('lists names, metadata and places', () => {
    const reader = open();
    expect(reader.names()).toEqual(['wide', 'empty', 'scalar', 'layers.0.weight', 'packed']);
    expect([...reader.metadata]).toEqual([['format', 'pt']]);
    expect(reader.info('layers.0.weight')).toEqual({
      name: 'layers.0.weight',
      dtype: 'BF16',
      shape: [4, 3],
      begin: 20,
      end: 44,
    });
    expect(reader.has('toString')).toBe(false);
    reader.close();
  });

  it('reads blocking and not, with equal results that the caller owns', async () => {
    const reader = open();
    for (const name of reader.names()) {
      const value = reader.read(name, { allowLossy: true });
      expect(await reader.readAsync(name, { allowLossy: true })).toEqual(value);
      expect(await reader.readBytesAsync(name)).toEqual(reader.readBytes(name));
    }
    const first = reader.read('scalar');
    (first.data as Float32Array).fill(0);
    reader.readBytes('scalar').fill(0);
    expect(reader.read('scalar').data).toEqual(Float32Array.of(7));
    await reader[Symbol.asyncDispose]();
  });

  it('reads rows as a slice of the whole', async () => {
    const reader = open();
    const whole = [...reader.read('layers.0.weight').data];
    fc.assert(
      fc.property(fc.nat({ max: 4 }), fc.nat({ max: 4 }), (a, b) => {
        const [start, end] = a < b ? [a, b] : [b, a];
        const slice = reader.readSlice('layers.0.weight', { start, end });
        expect(slice.shape).toEqual([end - start, 3]);
        expect([...slice.data]).toEqual(whole.slice(start * 3, end * 3));
      }),
    );
    expect((await reader.readSliceAsync('layers.0.weight', { start: 1, end: 2 })).data).toEqual(
      Float32Array.of(3, 4, 5),
    );
    expect(reader.readSlice('empty', { start: 2, end: 4 })).toMatchObject({
      shape: [2, 0],
      data: new Float32Array(),
    });
    reader[Symbol.dispose]();
  });

  it.each<[string, number, number, string]>([
    ['layers.0.weight', -1, 2, 'must lie in order within the first of [4, 3], got -1 to 2'],
    ['layers.0.weight', 0, 5, 'got 0 to 5'],
    ['layers.0.weight', 3, 2, 'got 3 to 2'],
    ['layers.0.weight', 0.5, 2, 'got 0.5 to 2'],
    ['scalar', 0, 1, 'within the first of []'],
    ['packed', 0, 1, 'rows must fill whole bytes to be sliced, got 1.5 bytes of F4'],
  ])('refuses rows of %s from %d to %d', async (name, start, end, message) => {
    const reader = open();
    expect(() => reader.readSlice(name, { start, end })).toThrow(message);
    await expect(reader.readSliceAsync(name, { start, end })).rejects.toThrow(message);
    reader.close();
  });

  it('suggests the nearest name for one that is not there', async () => {
    const reader = open();
    expect(() => reader.read('layer.0.weight')).toThrow(
      'tensor must be one of its 5, got "layer.0.weight" (did you mean "layers.0.weight"?)',
    );
    expect(() => reader.info('zzz')).toThrow('got "zzz"');
    await expect(reader.readAsync('zzz')).rejects.toThrow('got "zzz"');
    reader.close();
  });

  it('does not narrow F64 unasked, and says which tensor', () => {
    const reader = open();
    expect(() => reader.read('wide')).toThrow(
      /tensor "wide": must be of at most 32 bits .* allowLossy: true/,
    );
    expect(reader.read('wide', { allowLossy: true }).data).toEqual(Float32Array.of(0.1, 2));
    reader.close();
  });
});

describe('openSafetensors', () => {
  it('reads the header only, and then only what is asked for', () => {
    const asked: number[] = [];
    const reader = openSafetensors(file, {
      allocate: (size) => {
        asked.push(size);
        return new ArrayBuffer(size);
      },
    });
    expect(asked).toEqual([]);
    reader.readSlice('layers.0.weight', { start: 0, end: 1 });
    reader.readBytes('packed');
    expect(asked).toEqual([12, 3]);
    reader.close();
  });

  it('cannot be read after close; close may come twice', async () => {
    const reader = openSafetensors(file);
    reader.close();
    reader.close();
    expect(() => reader.read('scalar')).toThrow('must be open to be read, got a closed file');
    await expect(reader.readAsync('scalar')).rejects.toThrow('got a closed file');
  });

  it('says so when the file shrinks under it', async () => {
    const reader = openSafetensors(file);
    fs.truncateSync(file, bytes.byteLength - 10);
    expect(() => reader.read('layers.0.weight')).toThrow(
      /must keep its \d+ bytes while it is read, got an end at/,
    );
    await expect(reader.readBytesAsync('packed')).rejects.toThrow('was it written over?');
    reader.close();
  });

  it.each<[string, (place: string) => void, string]>([
    ['a missing file', () => {}, 'got ENOENT (check the path)'],
    ['a folder', (place) => fs.mkdirSync(place), 'must be a file'],
    ['an empty file', (place) => fs.writeFileSync(place, ''), 'must have at least 8 bytes, got 0'],
    ['a web page', (place) => fs.writeFileSync(place, '<!DOCTYPE html><html>'), 'is the file complete?'],
    [
      'half a file',
      (place) => fs.writeFileSync(place, bytes.subarray(0, bytes.byteLength - 1)),
      'the file is cut short',
    ],
    [
      'a longer file',
      (place) => fs.writeFileSync(place, Buffer.concat([bytes, Buffer.of(0)])),
      '1 trailing bytes',
    ],
  ])('explains %s, naming the path', (_, make, message) => {
    const place = path.join(folder, 'bad');
    make(place);
    try {
      openSafetensors(place);
      expect.unreachable();
    } catch (error) {
      expect(isMoebiusError(error)).toBe(true);
      expect(String(error)).toContain(message);
      expect(String(error)).toContain(place);
    }
  });

  it('does not leak descriptors when opening fails', () => {
    const bad = path.join(folder, 'bad');
    fs.writeFileSync(bad, 'x');
    const count = (): number => (fs.existsSync('/proc/self/fd') ? fs.readdirSync('/proc/self/fd').length : 0);
    const before = count();
    for (let round = 0; round < 20; round += 1) expect(() => openSafetensors(bad)).toThrow();
    expect(count()).toBe(before);
  });
});
