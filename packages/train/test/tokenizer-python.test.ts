import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { createTokenizer } from '../src/tokenizer/tokenizer.ts';
import { readBytePairModel } from '../src/tokenizer/tokenizer-definition.ts';
import { trainTokenizer } from '../src/tokenizer/train-tokenizer.ts';

interface FixtureCase {
  vocabularySize: number;
  minimumCount: number;
  merges: [string, string][];
  vocabulary: string[];
  encodings: { text: string; ids: number[] }[];
}

const folder = join(import.meta.dirname, '__fixtures__');
const { cases } = JSON.parse(readFileSync(join(folder, 'tokenizer-python.json'), 'utf8')) as {
  cases: FixtureCase[];
};
const texts = ['lincoln-1862.txt', 'moby-dick-1.txt'].map((name) => readFileSync(join(folder, name), 'utf8'));

describe.each(cases)("Python's tokenizers, vocabulary of $vocabularySize", (fixture) => {
  const { vocabularySize, minimumCount } = fixture;
  const definition = trainTokenizer(texts, { vocabularySize, minimumCount });
  const model = readBytePairModel(definition);

  it('learns the same merges in the same order, ties included', () => {
    expect(model.merges).toEqual(fixture.merges);
  });

  it('numbers the same tokens the same way', () => {
    expect(
      [...model.vocabulary.keys()].toSorted(
        (a, b) => (model.vocabulary.get(a) ?? 0) - (model.vocabulary.get(b) ?? 0),
      ),
    ).toEqual(fixture.vocabulary);
  });

  it('encodes and decodes every sample string the same way', () => {
    const tokenizer = createTokenizer(definition);
    for (const { text, ids } of fixture.encodings) {
      expect([...tokenizer.encode(text)], text.slice(0, 40)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(text);
    }
  });
});
