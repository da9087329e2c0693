/**
 * @file Training a byte-level BPE tokenizer: words are counted, merges learned, and the result written as a
 * Hugging Face tokenizer.json that opens in Python's `tokenizers` and in `@huggingface/tokenizers`.
 */
import { MoebiusError } from '@moebius/core';

import { learnMerges } from './bpe-merges.kernel.ts';
import { byteCharacter, bytesInAlphabetOrder } from './byte-alphabet.ts';
import { countWords } from './pretokenize.ts';
import type { TokenizerDefinition } from './tokenizer-definition.ts';

/** The token between documents when none is named. */
export const endOfText: string = '<|endoftext|>';

/** How large a tokenizer to train. */
export interface TokenizerTrainingOptions {
  /** Entries of the vocabulary, special tokens and the 256 bytes included. Fewer are made when text is too short. */
  readonly vocabularySize: number;
  /** Tokens with ids 0, 1, … that no text produces; the first separates documents. Default `<|endoftext|>`. */
  readonly specialTokens?: readonly string[];
  /** Pairs that occur less often are not merged. Default 2. */
  readonly minimumCount?: number;
}

const largestVocabulary = 2 ** 20; // ids stay below 2^24, so that a pair of ids is one exact number

/**
 * Trains a byte-level BPE tokenizer. Deterministic: the same texts give the same file, whatever their order
 * in time; ties are broken by the smaller left id, then the smaller right id.
 *
 * @param texts - read once; 10 MB take a few seconds
 * @returns the content of a tokenizer.json; make a tokenizer of it with `createTokenizer`
 * @throws `configuration` for an impossible size or bad special tokens, `data` when the texts are empty
 * @example
 * ```ts
 * const definition = trainTokenizer(['the cat sat on the mat'], { vocabularySize: 260 });
 * ```
 */
export function trainTokenizer(
  texts: Iterable<string>,
  options: TokenizerTrainingOptions,
): TokenizerDefinition {
  const { vocabularySize, specialTokens = [endOfText], minimumCount = 2 } = options;
  assertTrainingOptions(vocabularySize, specialTokens, minimumCount);
  const words = countWords(texts);
  if (words.size === 0) {
    throw new MoebiusError({
      code: 'data',
      message: 'trainTokenizer: expected text to learn merges from, got nothing (check the data path)',
    });
  }
  const tokens: string[] = [...specialTokens];
  const idOfByte = new Int32Array(256);
  for (const byte of bytesInAlphabetOrder()) {
    idOfByte[byte] = tokens.length;
    tokens.push(byteCharacter(byte));
  }
  const idOfToken = new Map(tokens.map((token, id) => [token, id]));
  const merge = (left: number, right: number): number => {
    const token = `${tokens[left] ?? ''}${tokens[right] ?? ''}`;
    const known = idOfToken.get(token);
    if (known !== undefined) return known;
    idOfToken.set(token, tokens.length);
    return tokens.push(token) - 1;
  };
  const merges = learnMerges(packWords(words, idOfByte), {
    merge,
    hasRoom: () => tokens.length < vocabularySize,
    minimumCount,
  });
  const names = merges.map(([left, right]): [string, string] => [tokens[left] ?? '', tokens[right] ?? '']);
  return describeTokenizer(idOfToken, names, specialTokens);
}

function assertTrainingOptions(size: number, specialTokens: readonly string[], minimumCount: number): void {
  const smallest = 256 + specialTokens.length;
  const fault = (message: string, details: { [key: string]: number | string | string[] }): MoebiusError =>
    new MoebiusError({ code: 'configuration', message: `trainTokenizer: ${message}`, details });
  if (!Number.isInteger(size) || size < smallest || size > largestVocabulary) {
    throw fault(
      `vocabularySize must be an integer from ${smallest} (256 bytes and ${specialTokens.length} special tokens) to ` +
        `${largestVocabulary}, got ${size} (4096 suits a few megabytes of text)`,
      { vocabularySize: size, smallest, largest: largestVocabulary },
    );
  }
  if (!Number.isInteger(minimumCount) || minimumCount < 1) {
    throw fault(`minimumCount must be a positive integer, got ${minimumCount} (2 is usual)`, {
      minimumCount,
    });
  }
  if (specialTokens.some((token) => token === '') || new Set(specialTokens).size !== specialTokens.length) {
    const listed = JSON.stringify(specialTokens);
    throw fault(`specialTokens must be distinct and not empty, got ${listed} (remove the repeated one)`, {
      specialTokens: [...specialTokens],
    });
  }
}

/** The words as token ids of their bytes, one after the other. */
function packWords(
  words: ReadonlyMap<string, number>,
  idOfByte: Int32Array,
): { ids: Int32Array; starts: Int32Array; counts: Float64Array } {
  const encoded = [...words.keys()].map((word) => Buffer.from(word, 'utf8'));
  const starts = new Int32Array(encoded.length + 1);
  encoded.forEach((bytes, word) => {
    starts[word + 1] = (starts[word] ?? 0) + bytes.length;
  });
  const ids = new Int32Array(starts[encoded.length] ?? 0);
  encoded.forEach((bytes, word) => {
    ids.set(
      Array.from(bytes, (byte) => idOfByte[byte] ?? 0),
      starts[word],
    );
  });
  return { ids, starts, counts: Float64Array.from(words.values()) };
}

function describeTokenizer(
  vocabulary: ReadonlyMap<string, number>,
  merges: readonly (readonly [string, string])[],
  specialTokens: readonly string[],
): TokenizerDefinition {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary),
      merges,
    },
  };
}
