import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { isMoebiusError } from '@moebius/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { createPendingFile, syncFolderOf } from './atomic-file.ts';
import { attempt, memorySource, nodeFileSystem, openFile } from './file-system.ts';

let folder = '';
let target = '';
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-atomic-'));
  target = path.join(folder, 'file');
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const system = nodeFileSystem;

describe('createPendingFile', () => {
  it('shows nothing until it is published, then everything', () => {
    fs.writeFileSync(target, 'old');
    const file = createPendingFile(target, system);
    file.write(text('world'), 6);
    file.write(text('hello '), 0);
    file.seal();
    expect(fs.readFileSync(target, 'utf8')).toBe('old');
    file.publish();
    syncFolderOf(target, system);
    expect(fs.readFileSync(target, 'utf8')).toBe('hello world');
    expect(fs.readdirSync(folder)).toEqual(['file']);
  });

  it('keeps its order: written, sealed, published', () => {
    const file = createPendingFile(target, system);
    expect(() => file.publish()).toThrow('must be sealed before it is published, got open');
    file.seal();
    expect(() => file.write(text('x'), 0)).toThrow('must be open to be written, got sealed');
    expect(() => file.seal()).toThrow('must be open to be written');
    file.publish();
    expect(() => file.publish()).toThrow('got done');
  });

  it('discards what was not published, and nothing that was', () => {
    const dropped = createPendingFile(target, system);
    dropped.write(text('x'), 0);
    dropped.discard();
    dropped.discard();
    expect(fs.readdirSync(folder)).toEqual([]);
    const kept = createPendingFile(target, system);
    kept.seal();
    kept.publish();
    kept.discard();
    expect(fs.readdirSync(folder)).toEqual(['file']);
  });

  it('lets two writers of one file work at once: each result is whole, the later one stays', () => {
    const first = createPendingFile(target, system);
    const second = createPendingFile(target, system);
    first.write(text('first'), 0);
    second.write(text('second'), 0);
    second.seal();
    second.publish();
    expect(fs.readFileSync(target, 'utf8')).toBe('second');
    first.seal();
    first.publish();
    expect(fs.readFileSync(target, 'utf8')).toBe('first');
  });

  it('replaces a symbolic link, not the file it points to', () => {
    const blob = path.join(folder, 'blob');
    fs.writeFileSync(blob, 'shared');
    fs.symlinkSync(blob, target);
    const file = createPendingFile(target, system);
    file.seal();
    file.publish();
    expect(fs.readFileSync(blob, 'utf8')).toBe('shared');
    expect(fs.lstatSync(target).isFile()).toBe(true);
  });

  it('gives up when every temporary name is taken', () => {
    const taken = (): never => {
      throw Object.assign(new Error('there'), { code: 'EEXIST' });
    };
    expect(() => createPendingFile(target, { ...system, create: taken })).toThrow(
      'got 10000 leftovers (remove .file.*.tmp)',
    );
  });
});

describe('nodeFileSystem', () => {
  it('removes what is not there, reads only what is small, makes folders twice', () => {
    system.remove(target);
    expect(system.readSmall(target, 10)).toBeUndefined();
    fs.writeFileSync(target, '12345');
    expect(system.readSmall(target, 4)).toBeUndefined();
    expect(system.readSmall(target, 5)).toEqual(Buffer.from('12345'));
    system.makeFolder(path.join(folder, 'a/b'));
    system.makeFolder(path.join(folder, 'a/b'));
    expect(system.exists(path.join(folder, 'a/b'))).toBe(true);
  });

  it('does not hide a folder that is gone', () => {
    expect(() => syncFolderOf(path.join(folder, 'gone/file'), system)).toThrow(
      'must have a folder that can be synced, got ENOENT',
    );
  });
});

describe('sources', () => {
  it('read the same from a file and from memory', async () => {
    fs.writeFileSync(target, '0123456789');
    for (const source of [openFile(target), memorySource(text('0123456789'))]) {
      expect(source.size).toBe(10);
      const bytes = new Uint8Array(4);
      source.read(bytes, 3);
      expect(bytes).toEqual(text('3456'));
      await source.readAsync(bytes, 6);
      expect(bytes).toEqual(text('6789'));
      source.read(new Uint8Array(), 10);
      source.close();
    }
  });
});

describe('attempt', () => {
  it('adds path and remedy to what the system says, and lets our own errors pass', () => {
    const failing = (code: string) => (): never => {
      throw Object.assign(new Error('x'), { code });
    };
    try {
      attempt('/a/b', 'be writable', failing('EDQUOT'));
      expect.unreachable();
    } catch (error) {
      expect(isMoebiusError(error, 'io') && error.message).toBe(
        '/a/b: must be writable, got EDQUOT (free some of the quota)',
      );
      expect(() =>
        attempt('/c', 'be readable', () => {
          throw error;
        }),
      ).toThrow('/a/b: must be writable');
    }
    expect(() => attempt('/a', 'be writable', failing('EWEIRD'))).toThrow('/a: must be writable, got EWEIRD');
  });
});
