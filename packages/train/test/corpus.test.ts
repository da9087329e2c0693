import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { isMoebiusError } from '@moebius/core';
import { beforeAll, describe, expect, it } from 'vitest';

import {
  computeBaselines,
  createBatchSampler,
  createBigramCounts,
  createTokenizer,
  defaultCacheFolder,
  kneserNeyBits,
  packDocuments,
  readTextSource,
  splitDocuments,
  trainTokenizer,
} from '../src/index.ts';
import type { TextDocument } from '../src/index.ts';
import { countWords } from '../src/tokenizer/pretokenize.ts';

/** The whole corpus, or the reason why it cannot be had: it is fetched once into the per-user cache. */
async function readCorpus(): Promise<{ documents: TextDocument[]; missing: string }> {
  try {
    const documents = await readTextSource({ corpus: 'sotu' }, { cacheFolder: defaultCacheFolder() });
    return { documents, missing: '' };
  } catch (error) {
    if (!isMoebiusError(error, 'io')) throw error;
    return { documents: [], missing: error.message };
  }
}

let corpus: Awaited<ReturnType<typeof readCorpus>>;
beforeAll(async () => {
  corpus = await readCorpus();
}, 600_000);

describe('the State of the Union corpus', () => {
  it('has 233 documents and 10,761,413 bytes', ({ skip }) => {
    if (corpus.missing !== '') skip(corpus.missing);
    expect(corpus.documents.length).toBe(233);
    expect(corpus.documents.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)).toBe(10_761_413);
  });

  it('gives a tokenizer of 4,096 tokens within 15 s, whose encoder agrees with @huggingface/tokenizers', ({
    skip,
  }) => {
    if (corpus.missing !== '') skip(corpus.missing);
    const texts = corpus.documents.map(({ text }) => text);
    const begun = performance.now();
    const definition = trainTokenizer(texts, { vocabularySize: 4096 });
    expect(performance.now() - begun).toBeLessThan(15_000);
    const tokenizer = createTokenizer(definition);
    expect(tokenizer.vocabularySize).toBe(4096);
    const library = new HuggingFaceTokenizer(definition, {});
    // Both merge word by word: every distinct word of the corpus stands for the whole text.
    const words = [...countWords(texts).keys()];
    expect(words.length).toBeGreaterThan(30_000);
    const differing = words.filter(
      (word) => library.encode(word).ids.join() !== tokenizer.encode(word).join(),
    );
    expect(differing).toEqual([]);
    for (const text of texts.filter((_, index) => index % 20 === 0)) {
      expect([...tokenizer.encode(text)]).toEqual(library.encode(text).ids);
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
  });

  it('has the documented baselines on the default split', ({ skip }) => {
    if (corpus.missing !== '') skip(corpus.missing);
    const split = splitDocuments(corpus.documents, { heldOutFraction: 0.1, seed: 0 });
    const tokenizer = createTokenizer(
      trainTokenizer(
        split.training.map(({ text }) => text),
        { vocabularySize: 4096 },
      ),
    );
    const training = packDocuments(split.training, tokenizer);
    const heldOut = packDocuments(split.heldOut, tokenizer);
    const bits = computeBaselines({ training, heldOut, tokenizer });
    expect(split.heldOut.length).toBe(23);
    expect(bits.byteBigram).toBeCloseTo(3.4026, 3);
    expect(bits.gzip).toBeCloseTo(2.67, 1);
    expect(bits.tokenUnigram).toBeCloseTo(2.1903, 3);
    expect(bits.tokenBigram).toBeCloseTo(1.5161, 3);
    const sampler = createBatchSampler(training, { length: 256, seed: 1 });
    const seen = createBigramCounts(training.vocabularySize);
    const { ids, targets } = sampler.rows(0, 1968);
    seen.add(ids, targets);
    expect(seen.total).toBe(503_808);
    expect(kneserNeyBits(seen, heldOut)).toBeCloseTo(1.5924, 3);
  });
});
