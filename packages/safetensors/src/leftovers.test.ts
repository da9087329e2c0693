import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { afterEach, beforeEach, expect, it } from 'vitest';

import { createPendingFile } from './atomic-file.ts';
import { nodeFileSystem } from './file-system.ts';
import { removeLeftovers } from './leftovers.ts';

let folder = '';
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-leftovers-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

it('removes what a killed writer leaves, and nothing else', () => {
  const kept = [
    'model.safetensors',
    '.notes.tmp',
    '.gitignore',
    'model.safetensors.0.tmp',
    '.a.safetensors.tmp',
  ];
  for (const name of kept) fs.writeFileSync(path.join(folder, name), '');
  for (const name of ['model.safetensors', 'model.safetensors.index.json', 'model.safetensors']) {
    createPendingFile(path.join(folder, name), nodeFileSystem).write(Uint8Array.of(1), 0); // and then nothing: killed
  }
  expect(removeLeftovers(folder)).toEqual([
    '.model.safetensors.0.tmp',
    '.model.safetensors.1.tmp',
    '.model.safetensors.index.json.0.tmp',
  ]);
  expect(fs.readdirSync(folder).toSorted()).toEqual(kept.toSorted());
  expect(removeLeftovers(folder)).toEqual([]);
});

it('has nothing to do where there is no folder, and says when it cannot look', () => {
  expect(removeLeftovers(path.join(folder, 'absent'))).toEqual([]);
  fs.writeFileSync(path.join(folder, 'file'), '');
  expect(() => removeLeftovers(path.join(folder, 'file'))).toThrow(/file: must be readable, got ENOTDIR$/);
});
