import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { createTextStream } from './text-stream.ts';
import { createTokenizer } from './tokenizer.ts';
import { parseTokenizerDefinition } from './tokenizer-definition.ts';
import { readTokenizer, writeTokenizer } from './tokenizer-folder.ts';
import { trainTokenizer } from './train-tokenizer.ts';

const sample =
  'Call me Ishmael. Some years ago, never mind how long precisely, naïve café 🙂🙂, 日本語 日本語, it’s it’s.';
const definition = trainTokenizer([sample, sample], { vocabularySize: 400 });
const tokenizer = createTokenizer(definition);
const library = new HuggingFaceTokenizer(definition, {});

/** The same tokenizer with a normalizer that does nothing, which our fast encoder does not take on. */
const general = createTokenizer({ ...definition, normalizer: { type: 'Sequence', normalizers: [] } });

const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 80 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc
    .array(fc.constantFrom(...sample.split(' '), ' ', '\n', '\ud83d', '\ufeff', '<|endoftext|>', 'aaaa'), {
      maxLength: 20,
    })
    .map((parts) => parts.join('')),
);

/** Lone surrogates become U+FFFD, as in every UTF-8 encoder. */
const wellFormed = (text: string): string => Buffer.from(text, 'utf8').toString('utf8');

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'moebius-tokenizer-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('createTokenizer', () => {
  it('gives the ids of @huggingface/tokenizers for any text', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect([...tokenizer.encode(text)]).toEqual(
          text === '' ? [] : library.encode(text, { add_special_tokens: false }).ids,
        );
        expect(tokenizer.encode(text)).toEqual(general.encode(text));
      }),
      { numRuns: 500 },
    );
  });

  it('gives back any text, emoji and all scripts included', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(wellFormed(text));
      }),
      { numRuns: 500 },
    );
  });

  it('counts the UTF-8 bytes of the text that the ids stand for', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const plain = text.replaceAll('<|endoftext|>', '');
        fc.pre(!plain.includes('<|endoftext|>'));
        expect(tokenizer.countBytes(tokenizer.encode(text))).toBe(Buffer.byteLength(plain));
      }),
    );
  });

  it('encodes a word of a hundred thousand letters in less than quadratic time', () => {
    const word = 'ago'.repeat(40_000);
    const ids = tokenizer.encode(word);
    expect(tokenizer.decode(ids)).toBe(word);
    expect(ids.length).toBeLessThan(word.length);
  });

  it('turns bytes that are not UTF-8 into replacement characters', () => {
    const [first = 0] = tokenizer.encode('🙂');
    const bytes = Array.from(tokenizer.encode('ÿ')).slice(0, 1);
    expect(tokenizer.decode([...bytes])).toContain('\uFFFD');
    expect(tokenizer.bytesOf(first)).toBeInstanceOf(Uint8Array);
  });

  it('has an end-of-text id that stands for no text', () => {
    expect(tokenizer.endOfTextId).toBe(0);
    expect(tokenizer.decode([0])).toBe('<|endoftext|>');
    expect(tokenizer.decode([0], { skipSpecialTokens: true })).toBe('');
    expect(tokenizer.countBytes([0])).toBe(0);
  });

  it('says which end-of-text tokens it looked for', () => {
    const none = {
      ...definition,
      added_tokens: [],
      model: { ...definition.model, vocab: { a: 0 }, merges: [] },
    };
    expect(() => createTokenizer(none)).toThrow(
      /must have a token that ends a text, got none of <\|endoftext\|>/,
    );
    expect(() => createTokenizer(definition, { endOfTextToken: '<eos>' })).toThrow(
      /must be in the vocabulary, got "<eos>"/,
    );
  });
});

describe('createTextStream', () => {
  it.each([
    ['byte-level', tokenizer],
    ['general', { ...tokenizer, bytesOf: () => undefined }],
  ])('joins to the decoded text, one id at a time (%s)', (_, stream) => {
    fc.assert(
      fc.property(anyText, (text) => {
        const plain = wellFormed(text.replaceAll('<|endoftext|>', ''));
        fc.pre(!plain.includes('<|endoftext|>') && !plain.includes('\uFFFD'));
        const output = createTextStream(stream);
        const parts = Array.from(tokenizer.encode(plain), (id) => output.push(id));
        expect(parts.join('') + output.flush()).toBe(plain);
      }),
    );
  });

  it('holds a character back until its last byte has come', () => {
    const output = createTextStream(tokenizer);
    const ids = tokenizer.encode('ø');
    expect(ids.length).toBe(2);
    expect(Array.from(ids, (id) => output.push(id))).toEqual(['', 'ø']);
    output.push(ids[0] ?? 0);
    expect(output.flush()).toBe('\uFFFD');
  });
});

describe('tokenizer files', () => {
  it('reads back what it wrote', async () => {
    await writeTokenizer(tokenizer, folder);
    const back = await readTokenizer(folder);
    expect(back.hash).toBe(tokenizer.hash);
    expect(back.encode(sample)).toEqual(tokenizer.encode(sample));
    expect(JSON.parse(await readFile(join(folder, 'tokenizer_config.json'), 'utf8'))).toMatchObject({
      eos_token: '<|endoftext|>',
    });
  });

  it('has the same hash whatever the order of keys', () => {
    const turned = Object.fromEntries(Object.entries(definition).toReversed());
    expect(createTokenizer(parseTokenizerDefinition(turned, 'turned')).hash).toBe(tokenizer.hash);
  });

  it.each([
    ['[]', /must be a Hugging Face tokenizer.json, got one without an object at its top/],
    ['{"model":{}}', /without a vocabulary in "model.vocab"/],
    ['{"model":{"vocab":{}},"added_tokens":[1]}', /without a list of \{ id, content \}/],
    ['{"model":', /must be JSON, got /],
  ])('refuses %s', async (text, message) => {
    const file = join(folder, 'bad.json');
    await writeFile(file, text);
    await expect(readTokenizer(file)).rejects.toThrow(message);
  });

  it('says where it looked for a file that is not there', async () => {
    await expect(readTokenizer(join(folder, 'nowhere'))).rejects.toThrow(
      /expected a file at .*nowhere.tokenizer.json, got none/,
    );
  });
});
