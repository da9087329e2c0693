/** @file What a tokenizer is made of, and how it does on a text. */
import type { TextDocument } from '../data/documents.ts';
import type { Tokenizer } from './tokenizer.ts';
import { isByteLevel } from './tokenizer-definition.ts';

/** A token by id and content. */
export interface NamedToken {
  readonly id: number;
  readonly content: string;
}

/** How a tokenizer does on a text. */
export interface TokenizedText {
  readonly documents: number;
  /** UTF-8. */
  readonly bytes: number;
  readonly tokens: number;
  readonly bytesPerToken: number;
  /** Different ids in the text. */
  readonly usedTokens: number;
  /** Whether decoding gives every document back. */
  readonly isLossless: boolean;
}

/** A tokenizer in numbers. */
export interface TokenizerCard {
  /** Kind of its model: `BPE`, `Unigram`, … */
  readonly type: string;
  /** Whether every byte has a token. */
  readonly isByteLevel: boolean;
  readonly vocabularySize: number;
  /** Of a BPE model; else 0. */
  readonly merges: number;
  readonly specialTokens: readonly NamedToken[];
  readonly endOfText: NamedToken;
  /** The longest texts that have one token. */
  readonly longest: readonly string[];
  /** SHA-256 of its definition. */
  readonly hash: string;
  /** Only when a text was given. */
  readonly text?: TokenizedText;
}

const shownLongest = 8;

/**
 * Describes a tokenizer.
 *
 * @param documents - a text to measure it on
 */
export function describeTokenizer(tokenizer: Tokenizer, documents?: readonly TextDocument[]): TokenizerCard {
  const { definition, vocabularySize, hash, endOfTextId } = tokenizer;
  const special = definition.added_tokens.filter((token) => token.special === true);
  const { merges } = definition.model as { readonly merges?: readonly unknown[] };
  const card = {
    type: definition.model.type ?? 'unknown',
    isByteLevel: isByteLevel(definition),
    vocabularySize,
    merges: merges?.length ?? 0,
    specialTokens: special.map(({ id, content }) => ({ id, content })),
    endOfText: { id: endOfTextId, content: tokenizer.decode([endOfTextId]) },
    longest: longestTokens(tokenizer, new Set(definition.added_tokens.map(({ id }) => id))),
    hash,
  };
  return documents === undefined ? card : { ...card, text: measure(tokenizer, documents) };
}

function longestTokens(tokenizer: Tokenizer, added: ReadonlySet<number>): string[] {
  const texts: string[] = [];
  for (let id = 0; id < tokenizer.vocabularySize; id++) {
    if (!added.has(id) && tokenizer.bytesOf(id)?.length !== 0) texts.push(tokenizer.decode([id]));
  }
  return texts.toSorted((left, right) => right.length - left.length).slice(0, shownLongest);
}

function measure(tokenizer: Tokenizer, documents: readonly TextDocument[]): TokenizedText {
  const used = new Set<number>();
  let bytes = 0;
  let tokens = 0;
  let isLossless = true;
  for (const { text } of documents) {
    const ids = tokenizer.encode(text);
    for (const id of ids) used.add(id);
    tokens += ids.length;
    bytes += Buffer.byteLength(text);
    isLossless &&= tokenizer.decode(ids) === text;
  }
  return {
    documents: documents.length,
    bytes,
    tokens,
    bytesPerToken: bytes / Math.max(1, tokens),
    usedTokens: used.size,
    isLossless,
  };
}
