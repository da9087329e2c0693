import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { describeTokenizer } from '../tokenizer/describe-tokenizer.ts';
import { trainTokenizer } from '../tokenizer/train-tokenizer.ts';
import { describeDataset } from './describe-dataset.ts';
import { sharedGramShares } from './shared-grams.kernel.ts';
import { countTextFaults } from './text-faults.ts';
import { readTextSource } from './text-source.ts';
import { packDocuments } from './token-shard.ts';

const tokenizer = createTokenizer(trainTokenizer(['a cat and a hat'], { vocabularySize: 262 }));
const clean = {
  replacementCharacters: 0,
  controlCharacters: 0,
  byteOrderMarks: 0,
  loneSurrogates: 0,
  doubleEncoded: 0,
};

function describeTexts(training: { [name: string]: string }, heldOut: { [name: string]: string }) {
  const documents = (texts: { [name: string]: string }) =>
    Object.entries(texts).map(([name, text]) => ({ name, text }));
  const split = { training: documents(training), heldOut: documents(heldOut) };
  return describeDataset({
    split,
    tokenizer,
    training: packDocuments(split.training, tokenizer),
    heldOut: packDocuments(split.heldOut, tokenizer),
  });
}

describe('describeDataset', () => {
  it('counts documents, bytes and tokens, end-of-text left out', () => {
    const { training, heldOut, frequent, usedTokens } = describeTexts(
      { a: 'é xx', b: 'xxxxxx' },
      { c: 'zz' },
    );
    expect(training).toEqual({
      documents: 2,
      characters: 10,
      bytes: 11,
      tokens: 11,
      bytesPerToken: 1,
      longest: { name: 'b', tokens: 6 },
    });
    expect(heldOut).toMatchObject({ documents: 1, bytes: 2, tokens: 2 });
    expect(frequent[0]).toMatchObject({ text: 'x', count: 8 });
    expect(usedTokens).toBe(4);
  });
  it('finds documents that occur twice, and held-out text that is trained on', () => {
    const long = 'the quick brown fox jumps over the lazy dog';
    const report = describeTexts(
      { one: long, two: 'something else altogether', three: long },
      { same: long, part: `${long.slice(5, 35)} 0123456789`, other: 'no such words in there at all' },
    );
    expect(report.repeated).toEqual([{ name: 'three', sameAs: 'one' }]);
    expect(report.leaked).toEqual([{ name: 'same', sameAs: 'one' }]);
    expect(report.shared.map(({ name }) => name)).toEqual(['part']);
    expect(report.shared[0]?.share).toBeGreaterThan(0.3);
  });
  it('names documents with signs of a bad encoding', () => {
    const { faulty } = describeTexts({ good: 'naïve — “yes”\n' }, { bad: 'caf\uFFFD cafÃ© \u0007\r\n' });
    expect(faulty).toEqual([
      {
        ...clean,
        name: 'bad',
        replacementCharacters: 1,
        controlCharacters: 1,
        doubleEncoded: 1,
        windowsLineEnds: 1,
      },
    ]);
  });
});

describe('countTextFaults', () => {
  it('finds nothing in any language as it should be', () => {
    for (const text of ['Grüße, Ärger', 'São João', 'où ça', '日本語 🙂', 'Ж и щ', 'tab\tand\nlines']) {
      expect(countTextFaults(text), text).toEqual({ ...clean, windowsLineEnds: 0 });
    }
  });
  it('sees text that was read in the wrong encoding', () => {
    for (const text of ['é', '“', 'ß', '…', '—', 'ñ']) {
      const twice = new TextDecoder('windows-1252').decode(new TextEncoder().encode(text));
      expect(countTextFaults(twice).doubleEncoded, twice).toBe(1);
    }
    expect(countTextFaults('a\uFEFFb\uD800')).toMatchObject({ byteOrderMarks: 1, loneSurrogates: 1 });
  });
});

describe('sharedGramShares', () => {
  const text = fc.array(fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 14 }), {
    minLength: 1,
    maxLength: 4,
  });
  const packed = (documents: readonly number[][]) => ({
    tokens: Uint16Array.from(documents.flatMap((ids) => [0, ...ids])),
    starts: Int32Array.from([0, ...documents].map((_, at) => documents.slice(0, at).flat().length + at)),
  });
  const grams = (ids: readonly number[], size: number) =>
    ids.slice(size - 1).map((_, at) => ids.slice(at, at + size).join());
  it('is what sets of joined n-grams give', () => {
    fc.assert(
      fc.property(text, text, fc.integer({ min: 1, max: 5 }), (training, heldOut, size) => {
        const known = new Set(training.flatMap((ids) => grams(ids, size)));
        const expected = heldOut.map((ids) => {
          const own = grams(ids, size);
          return own.length === 0 ? 0 : own.filter((gram) => known.has(gram)).length / own.length;
        });
        expect([...sharedGramShares(packed(training), packed(heldOut), size)]).toEqual(expected);
      }),
    );
  });
});

describe('describeTokenizer', () => {
  it('tells what it is made of and how it does on a text', () => {
    const card = describeTokenizer(tokenizer, [{ name: 'x', text: 'a cat, a hat 🙂' }]);
    expect(card).toMatchObject({
      type: 'BPE',
      isByteLevel: true,
      vocabularySize: 259,
      merges: 2,
      specialTokens: [{ id: 0, content: '<|endoftext|>' }],
      endOfText: { id: 0, content: '<|endoftext|>' },
      text: { documents: 1, bytes: 17, isLossless: true },
    });
    expect(card.longest[0]?.length).toBeGreaterThan(1);
    expect(card.text?.bytesPerToken).toBeCloseTo(17 / (card.text?.tokens ?? NaN), 9);
  });
});

describe('readTextSource with onUnusable', () => {
  it('tells of files that cannot be used and reads the others', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'moebius-unusable-'));
    writeFileSync(join(folder, 'good.txt'), 'text');
    writeFileSync(join(folder, 'latin.txt'), Buffer.from([0x63, 0x61, 0x66, 0xe9]));
    writeFileSync(join(folder, 'rows.jsonl'), '{"body": 1}\n');
    const told: string[] = [];
    const read = (onUnusable?: (error: Error) => void) =>
      readTextSource(
        { path: folder },
        { cacheFolder: folder, ...(onUnusable === undefined ? {} : { onUnusable }) },
      );
    const documents = await read(({ message }) => told.push(message));
    expect(documents).toEqual([{ name: 'good.txt', text: 'text' }]);
    expect(told).toEqual([
      expect.stringContaining('latin.txt: must be UTF-8 text, got bytes that are not UTF-8'),
      expect.stringContaining('rows.jsonl, line 1: must be a JSON object with a string "text"'),
    ]);
    await expect(read()).rejects.toThrow('latin.txt: must be UTF-8 text');
  });
});
