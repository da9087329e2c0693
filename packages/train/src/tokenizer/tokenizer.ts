/**
 * @file A tokenizer: text to ids and back, by a Hugging Face tokenizer.json. Encoding and decoding are those of
 * `@huggingface/tokenizers`; plain byte-level BPE has a faster encoder with the same result.
 */
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { MoebiusError } from '@moebius/core';

import { tokenBytes } from './byte-alphabet.ts';
import { createWordEncoder } from './byte-level-encoder.ts';
import {
  countVocabulary,
  hashTokenizerDefinition,
  isByteLevel,
  isPlainByteLevelBpe,
  readBytePairModel,
} from './tokenizer-definition.ts';
import type { TokenizerDefinition } from './tokenizer-definition.ts';

/** Text to token ids and back. */
export interface Tokenizer {
  /** The content of its tokenizer.json. */
  readonly definition: TokenizerDefinition;
  /** Largest id plus one. */
  readonly vocabularySize: number;
  /** SHA-256 of the definition: names caches made with it. */
  readonly hash: string;
  /** The id between documents, which also ends a generated text. */
  readonly endOfTextId: number;
  /** The ids of a text: int32 `[tokens]`, caller owns. The text of an added token gives that token's id. */
  encode(text: string): Int32Array;
  /** The text of ids, special tokens included as their text. Bytes that are not UTF-8 become U+FFFD. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** The id of a token's string, if it is one. */
  tokenId(token: string): number | undefined;
  /** The bytes of one id when every token is a byte string; undefined otherwise. A special token has none. */
  bytesOf(id: number): Uint8Array | undefined;
  /** How many UTF-8 bytes of text the ids stand for; special tokens count nothing. */
  countBytes(ids: ArrayLike<number>): number;
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  readonly skipSpecialTokens?: boolean;
}

/** What a tokenizer.json does not say itself. */
export interface TokenizerOptions {
  /** The token between documents. Default: the first of `<|endoftext|>`, `</s>`, `<|im_end|>`, … that exists. */
  readonly endOfTextToken?: string;
}

const usualEndTokens: readonly string[] = [
  '<|endoftext|>',
  '<|end_of_text|>',
  '</s>',
  '<eos>',
  '<|im_end|>',
  '<|eot_id|>',
  '<｜end▁of▁sentence｜>',
];

/**
 * Makes a tokenizer from the content of a tokenizer.json.
 *
 * @throws `format` when the library cannot use the definition, or no token ends a text
 * @example
 * ```ts
 * const tokenizer = createTokenizer(trainTokenizer(['a cat, a hat'], { vocabularySize: 260 }));
 * tokenizer.decode(tokenizer.encode('a cat')); // 'a cat'
 * ```
 */
export function createTokenizer(definition: TokenizerDefinition, options: TokenizerOptions = {}): Tokenizer {
  const library = openLibrary(definition);
  const added = new Map(definition.added_tokens.map((token) => [token.id, token]));
  const contents = definition.added_tokens.map((token) => token.content).filter((content) => content !== '');
  const fast = isPlainByteLevelBpe(definition) ? createWordEncoder(readBytePairModel(definition)) : undefined;
  const byteTable = isByteLevel(definition) ? makeByteTable(definition) : undefined;
  const decode = (ids: ArrayLike<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string =>
    ids.length === 0
      ? ''
      : library.decode(Array.from(ids), {
          skip_special_tokens: skipSpecialTokens,
          clean_up_tokenization_spaces: false,
        });
  return Object.freeze({
    definition,
    vocabularySize: countVocabulary(definition),
    hash: hashTokenizerDefinition(definition),
    endOfTextId: findEndOfText(library, options.endOfTextToken),
    encode(text) {
      if (text === '') return new Int32Array(0);
      if (fast !== undefined && !contents.some((content) => text.includes(content))) return fast(text);
      return Int32Array.from(library.encode(text, { add_special_tokens: false }).ids);
    },
    decode,
    tokenId: (token) => library.token_to_id(token),
    bytesOf: (id) => byteTable?.[id],
    countBytes(ids) {
      if (byteTable === undefined) {
        const text = Array.from(ids).filter((id) => added.get(id)?.special !== true);
        return Buffer.byteLength(decode(text), 'utf8');
      }
      let bytes = 0;
      for (let index = 0; index < ids.length; index++) bytes += byteTable[ids[index] ?? -1]?.length ?? 0;
      return bytes;
    },
  } satisfies Tokenizer);
}

function openLibrary(definition: TokenizerDefinition): HuggingFaceTokenizer {
  try {
    return new HuggingFaceTokenizer(definition, {});
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MoebiusError({
      code: 'format',
      message: `tokenizer: must be one that @huggingface/tokenizers understands, got model type ${definition.model.type ?? 'unknown'}: ${reason}`,
      details: { type: definition.model.type ?? 'unknown', reason },
      cause,
    });
  }
}

function findEndOfText(library: HuggingFaceTokenizer, wanted: string | undefined): number {
  for (const token of wanted === undefined ? usualEndTokens : [wanted]) {
    const id = library.token_to_id(token);
    if (id !== undefined) return id;
  }
  throw new MoebiusError({
    code: 'format',
    message:
      wanted === undefined
        ? `tokenizer: must have a token that ends a text, got none of ${usualEndTokens.join(' ')} (name one with endOfTextToken)`
        : `tokenizer: endOfTextToken must be in the vocabulary, got "${wanted}" (choose one of its added tokens)`,
    details: { wanted: wanted ?? null },
  });
}

/** The bytes of every id; empty for special tokens and for ids that do not exist. */
function makeByteTable(definition: TokenizerDefinition): readonly Uint8Array[] {
  const table: Uint8Array[] = Array.from({ length: countVocabulary(definition) }, () => new Uint8Array(0));
  for (const [token, id] of readBytePairModel(definition).vocabulary) {
    table[id] = tokenBytes(token) ?? new TextEncoder().encode(token);
  }
  for (const { id, content, special } of definition.added_tokens) {
    table[id] = special === true ? new Uint8Array(0) : new TextEncoder().encode(content);
  }
  return table;
}
