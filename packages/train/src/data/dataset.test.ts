import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { prepareDataset } from './dataset.ts';
import type { DatasetOptions } from './dataset.ts';

let folder = '';
let options: DatasetOptions;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'moebius-dataset-'));
  await mkdir(join(folder, 'texts'));
  for (let part = 0; part < 10; part++) {
    await writeFile(
      join(folder, 'texts', `${part}.txt`),
      `Chapter ${part}. The cat sat on the mat, part ${part}.\n`,
    );
  }
  options = {
    training: { path: join(folder, 'texts') },
    heldOutFraction: 0.3,
    splitSeed: 1,
    tokenizer: { vocabularySize: 300, minimumCount: 2 },
    cacheFolder: join(folder, 'cache'),
  };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const shardFiles = async (): Promise<string[]> => (await readdir(join(folder, 'cache', 'shards'))).toSorted();

describe('prepareDataset', () => {
  it('makes tokenizer and shards once, and reads them afterwards', async () => {
    const first = await prepareDataset(options);
    const files = await shardFiles();
    const times = await Promise.all(
      files.map(async (file) => (await stat(join(folder, 'cache', 'shards', file))).mtimeMs),
    );
    const second = await prepareDataset(options);
    expect(second.training).toEqual(first.training);
    expect(second.tokenizer.hash).toBe(first.tokenizer.hash);
    expect(await shardFiles()).toEqual(files);
    expect(
      await Promise.all(
        files.map(async (file) => (await stat(join(folder, 'cache', 'shards', file))).mtimeMs),
      ),
    ).toEqual(times);
    expect(files.filter((file) => !file.endsWith('.safetensors'))).toEqual([]);
  });

  it('never trains the tokenizer on held-out text', async () => {
    const before = await prepareDataset(options);
    const [held] = before.heldOutNames;
    await writeFile(join(folder, 'texts', held ?? ''), 'zzzz qqqq zzzz qqqq zzzz qqqq zzzz qqqq\n');
    const after = await prepareDataset(options);
    expect(after.tokenizer.hash).toBe(before.tokenizer.hash);
    expect(after.training).toEqual(before.training);
    expect(after.heldOut).not.toEqual(before.heldOut);
  });

  it('makes everything anew when the training text changes', async () => {
    const before = await prepareDataset(options);
    const trained = ['0.txt', '1.txt', '2.txt', '3.txt'].find((name) => !before.heldOutNames.includes(name));
    await writeFile(join(folder, 'texts', trained ?? ''), 'An entirely different text, a different text.\n');
    const after = await prepareDataset(options);
    expect(after.tokenizer.hash).not.toBe(before.tokenizer.hash);
    expect(after.training).not.toEqual(before.training);
  });

  it('takes held-out text and tokenizer of their own', async () => {
    const file = join(folder, 'other.txt');
    await writeFile(file, 'Quite another text.');
    const first = await prepareDataset(options);
    const tokenizers = join(folder, 'cache', 'tokenizers');
    const [name] = await readdir(tokenizers);
    const own = await prepareDataset({
      ...options,
      heldOut: { path: file },
      tokenizer: { path: join(tokenizers, name ?? '') },
    });
    expect(own.heldOutNames).toEqual(['other.txt']);
    expect(own.training.bytes.length).toBe(first.training.bytes.length + first.heldOut.bytes.length);
    expect([...own.heldOut.bytes]).toEqual([19]);
  });
});
