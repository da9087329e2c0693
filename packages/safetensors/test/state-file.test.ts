import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import {
  createMemoryState,
  isMoebiusError,
  runSync,
  type StateReader,
  type StateUnit,
  type StateWriter,
} from '@moebius/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { createStateFileWriter, openSafetensors, openStateFile, writeSafetensors } from '../src/index.ts';

let file = '';
beforeEach(() => {
  file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-state-')), 'state.safetensors');
});
afterEach(() => fs.rmSync(path.dirname(file), { recursive: true }));

function unit(id: string, version: number): StateUnit {
  return {
    id,
    version,
    tensors: {
      up: { dtype: 'F32', shape: [2], bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, version) },
      down: {
        dtype: 'BF16',
        shape: [1, 2],
        bytes: new Uint8Array(4).fill(version),
        box: { globalShape: [4, 2], offset: [3, 0] },
      },
      __proto__x: { dtype: 'U8', shape: [], bytes: Uint8Array.of(9) },
    },
  };
}

function write(writer: StateWriter, units: readonly StateUnit[]): void {
  runSync(writer.begin({ step: '12' }));
  for (const each of units) runSync(writer.put(each));
  runSync(writer.commit());
}

/** Both implementations of the port behave alike. */
describe.each<[string, () => { writer: StateWriter; reader: () => StateReader }]>([
  ['a file', () => ({ writer: createStateFileWriter(file), reader: () => openStateFile(file) })],
  [
    'memory',
    () => {
      const memory = createMemoryState();
      return { writer: memory.writer(), reader: () => memory.reader() };
    },
  ],
])('a state in %s', (_, make) => {
  it('comes back as it was put: units in order, versions, boxes, metadata', () => {
    const { writer, reader } = make();
    const units = [
      unit('layers.1.experts.3', 7),
      unit('layers.0/attention', 2),
      { id: 'empty', version: 0, tensors: {} },
    ];
    write(writer, units);
    const state = reader();
    expect(runSync(state.metadata())).toEqual({ step: '12' });
    expect(runSync(state.units())).toEqual(
      units.map(({ id, version }) => ({ id, version, byteLength: id === 'empty' ? 0 : 13 })),
    );
    for (const each of units) expect(runSync(state.read(each.id))).toEqual(each);
    expect(() => runSync(state.read('other'))).toThrow('unit must be one of the 3 saved, got "other"');
  });

  it('refuses calls out of order and units put twice', () => {
    const { writer } = make();
    expect(() => runSync(writer.put(unit('a', 1)))).toThrow('must begin before put');
    expect(() => runSync(writer.commit())).toThrow('must begin before commit');
    runSync(writer.begin());
    expect(() => runSync(writer.begin())).toThrow('got a second begin');
    runSync(writer.put(unit('a', 1)));
    expect(() => runSync(writer.put(unit('a', 2)))).toThrow('got "a" again');
    expect(() => runSync(writer.put({ ...unit('b', 1), version: -1 }))).toThrow('version must be');
    runSync(writer.abort());
    runSync(writer.abort());
    expect(() => runSync(writer.commit())).toThrow('must begin before commit');
  });
});

describe('a state file', () => {
  it('is a plain safetensors file', () => {
    write(createStateFileWriter(file), [unit('a', 3)]);
    const plain = openSafetensors(file);
    expect(plain.names().toSorted()).toEqual(['a/__proto__x', 'a/down', 'a/up']);
    expect(plain.metadata.get('step')).toBe('12');
    plain.close();
  });

  it('appears at commit, never before', () => {
    const writer = createStateFileWriter(file);
    runSync(writer.begin());
    runSync(writer.put(unit('a', 3)));
    expect(fs.readdirSync(path.dirname(file))).toEqual([]);
    runSync(writer.abort());
    expect(fs.readdirSync(path.dirname(file))).toEqual([]);
  });

  it('does not change with the bytes that were put', () => {
    const source = unit('a', 1);
    const writer = createStateFileWriter(file);
    runSync(writer.begin());
    runSync(writer.put(source));
    source.tensors['up']?.bytes.fill(0);
    runSync(writer.commit());
    const reader = openStateFile(file);
    expect(runSync(reader.read('a')).tensors['up']?.bytes[0]).toBe(1);
    reader.close();
  });

  it('reserves the metadata key of its directory', () => {
    const begin = createStateFileWriter(file).begin({ 'moebius.units': '[]' });
    expect(() => runSync(begin)).toThrow('which is reserved');
  });

  const tensor = { name: 'a/x', dtype: 'U8', shape: [1], bytes: Uint8Array.of(1) } as const;
  const directory = (entry: object): string =>
    JSON.stringify([{ id: 'a', version: 1, tensors: [{ name: 'x' }], ...entry }]);
  it.each<[string, string | undefined, string]>([
    ['no directory', undefined, 'no metadata moebius.units'],
    ['broken JSON', '[', 'must hold a state'],
    ['a version that is text', directory({ version: '1' }), '[0].version: must be a number, got "1"'],
    ['a tensor that is not in the file', directory({ tensors: [{ name: 'x' }, { name: 'y' }] }), 'got "a/y"'],
    ['a tensor that no unit has', '[]', 'do not cover the tensors exactly once'],
    ['a tensor of two units', directory({ tensors: [{ name: 'x' }, { name: 'x' }] }), 'exactly once'],
    ['an unknown field', directory({ extra: 1 }), 'must be a known key'],
  ])('with %s is refused', (_, text, message) => {
    writeSafetensors(file, [tensor], text === undefined ? {} : { metadata: { 'moebius.units': text } });
    try {
      openStateFile(file);
      expect.unreachable();
    } catch (error) {
      expect(isMoebiusError(error, 'checkpoint')).toBe(true);
      expect(String(error)).toContain(message);
    }
  });
});

describe('a byte that changed on the disk', () => {
  it('is found when its unit is read, and no other unit is refused', () => {
    write(createStateFileWriter(file), [unit('first', 1), unit('second', 2)]);
    const bytes = fs.readFileSync(file);
    const last = bytes.length - 1;
    bytes[last] = (bytes[last] ?? 0) ^ 1;
    fs.writeFileSync(file, bytes);
    const reader = openStateFile(file);
    const refused: string[] = [];
    for (const id of ['first', 'second']) {
      try {
        expect(runSync(reader.read(id))).toEqual(unit(id, id === 'first' ? 1 : 2));
      } catch (error) {
        if (!isMoebiusError(error, 'checkpoint')) throw error;
        refused.push(error.message);
      }
    }
    reader.close();
    expect(refused).toHaveLength(1);
    expect(refused[0]).toMatch(
      /state\.safetensors: unit "(first|second)" must have the bytes it was saved with, got others: sha256 [0-9a-f]{12}… where [0-9a-f]{12}… was written \(the file is damaged: restore a copy\)$/,
    );
  });

  it('is not looked for in a file that was written without hashes', () => {
    write(createStateFileWriter(file), [unit('first', 1)]);
    const reader = openSafetensors(file);
    const directory = reader.metadata.get('moebius.units') ?? '';
    const tensors = reader.names().map((name) => {
      const { dtype, shape } = reader.info(name);
      return { name, dtype, shape, bytes: reader.readBytes(name) };
    });
    reader.close();
    const old = directory.replace(/"sha256":"[0-9a-f]+",/u, '');
    expect(old).not.toBe(directory);
    writeSafetensors(file, tensors, { metadata: { 'moebius.units': old } });
    const again = openStateFile(file);
    expect(runSync(again.read('first'))).toEqual(unit('first', 1));
    again.close();
  });
});
