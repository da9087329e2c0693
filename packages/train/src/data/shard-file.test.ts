import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { writeSafetensors } from '@moebius/safetensors';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { trainTokenizer } from '../tokenizer/train-tokenizer.ts';
import { readShard, writeShard } from './shard-file.ts';
import { packDocuments } from './token-shard.ts';
import type { TokenShard } from './token-shard.ts';

const tokenizer = createTokenizer(trainTokenizer(['a cat and a hat'], { vocabularySize: 260 }));
const shard = packDocuments(
  [
    { name: 'a', text: 'a cat' },
    { name: 'b', text: 'a hät 🙂' },
  ],
  tokenizer,
);

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'moebius-shard-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('token shards', () => {
  it('put each document behind an end-of-text id and count its bytes', () => {
    const first = [tokenizer.endOfTextId, ...tokenizer.encode('a cat')];
    const second = [tokenizer.endOfTextId, ...tokenizer.encode('a hät 🙂')];
    expect([...shard.tokens]).toEqual([...first, ...second]);
    expect([...shard.starts]).toEqual([0, first.length, first.length + second.length]);
    expect([...shard.bytes]).toEqual([5, Buffer.byteLength('a hät 🙂')]);
    expect(shard.tokens).toBeInstanceOf(Uint16Array);
    const counted = (ids: ArrayLike<number>): number =>
      Array.from(ids, (id) => shard.tokenBytes?.[id] ?? NaN).reduce((a, b) => a + b);
    expect(counted(second)).toBe(Buffer.byteLength('a hät 🙂'));
  });

  it('are read back as they were written, with 16 and with 32 bits', async () => {
    const long: TokenShard = {
      ...shard,
      tokens: Int32Array.from(shard.tokens),
      tokenBytes: null,
      vocabularySize: 100_000,
    };
    for (const [index, one] of [shard, long].entries()) {
      const file = join(folder, `${index}.safetensors`);
      await writeShard(one, file);
      expect(await readShard(file)).toEqual(one);
    }
  });

  it('take 32 bits when the vocabulary needs them', () => {
    const vocab = { ...(tokenizer.definition.model['vocab'] as object), large: 70_000 };
    const large = createTokenizer({
      ...tokenizer.definition,
      model: { ...tokenizer.definition.model, vocab },
    });
    expect(packDocuments([{ name: 'a', text: 'a cat' }], large).tokens).toBeInstanceOf(Int32Array);
  });

  it.each([
    ['starts that do not fit', { starts: Int32Array.of(0, 3) }, /2 starts of 2 documents/],
    [
      'documents that end early',
      { starts: Int32Array.of(0, 3, 5) },
      /documents that do not cover its tokens/,
    ],
    ['byte counts of another vocabulary', { tokenBytes: new Uint16Array(3) }, /byte counts of 3 ids of \d+/],
    [
      'an id beyond the vocabulary',
      { vocabularySize: 10, tokenBytes: null },
      /must be a token shard, got id \d+ of 10 \(delete the file, it is made again\)/,
    ],
  ])('are refused with %s', async (_, broken, message) => {
    const file = join(folder, 'broken.safetensors');
    await writeShard({ ...shard, ...broken }, file);
    await expect(readShard(file)).rejects.toThrow(message);
  });

  it('are refused when torn or foreign', async () => {
    const file = join(folder, 'torn.safetensors');
    await writeShard(shard, file);
    await writeFile(file, (await readFile(file)).subarray(0, 100));
    await expect(readShard(file)).rejects.toThrow(/torn\.safetensors/);
    writeSafetensors(file, [{ name: 'x', dtype: 'F32', shape: [1], data: Float32Array.of(1) }]);
    await expect(readShard(file)).rejects.toThrow(/must be a token shard, got format ""/);
  });
});
