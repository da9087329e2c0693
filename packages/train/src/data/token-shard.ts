/**
 * @file A token shard: documents as one row of ids, each document behind an end-of-text id, so that a model learns
 * where texts begin and a document's first word has a context. On disk it is a safetensors file (opens in Python):
 * `tokens` U16 or I32, `starts` and `bytes` I32 per document, metadata with tokenizer hash and vocabulary size.
 */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { TextDocument } from './documents.ts';

/** Packed documents. Plain data; the arrays must not be written to. */
export interface TokenShard {
  /** `[tokens]`: end-of-text, document, end-of-text, document, … */
  readonly tokens: Uint16Array | Int32Array;
  /** `[documents + 1]`: where each document's end-of-text id is, and the length of `tokens`. */
  readonly starts: Int32Array;
  /** `[documents]`: UTF-8 bytes of each document's text. */
  readonly bytes: Int32Array;
  /** `[V]`: UTF-8 bytes that each id stands for, so that any part of the text can be measured; null when bytes depend on neighbours. */
  readonly tokenBytes: Uint16Array | null;
  /** Largest id plus one. */
  readonly vocabularySize: number;
  /** Which tokenizer made it. */
  readonly tokenizerHash: string;
}

/** The largest vocabulary whose ids fit in 16 bits. */
export const largestShortVocabulary: number = 65_536;

/** Packs documents. Bytes are counted after tokenizing, so a text's lone surrogates count as the U+FFFD they become. */
export function packDocuments(documents: readonly TextDocument[], tokenizer: Tokenizer): TokenShard {
  const encoded = documents.map((document) => tokenizer.encode(document.text));
  const starts = new Int32Array(documents.length + 1);
  for (const [index, ids] of encoded.entries()) starts[index + 1] = (starts[index] ?? 0) + ids.length + 1;
  const total = starts[documents.length] ?? 0;
  const isShort = tokenizer.vocabularySize <= largestShortVocabulary;
  const tokens = isShort ? new Uint16Array(total) : new Int32Array(total);
  for (const [index, ids] of encoded.entries()) {
    const start = starts[index] ?? 0;
    tokens[start] = tokenizer.endOfTextId;
    tokens.set(ids, start + 1);
  }
  return {
    tokens,
    starts,
    bytes: Int32Array.from(encoded, (ids) => tokenizer.countBytes(ids)),
    tokenBytes: bytesOfTokens(tokenizer),
    vocabularySize: tokenizer.vocabularySize,
    tokenizerHash: tokenizer.hash,
  };
}

function bytesOfTokens(tokenizer: Tokenizer): Uint16Array | null {
  if (tokenizer.bytesOf(tokenizer.endOfTextId) === undefined) return null;
  return Uint16Array.from(
    { length: tokenizer.vocabularySize },
    (_, id) => tokenizer.bytesOf(id)?.length ?? 0,
  );
}
