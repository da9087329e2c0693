/**
 * @file What a Hugging Face tokenizer.json says, as far as this package reads it. Everything else in the file is
 * kept as it is and handed to `@huggingface/tokenizers`.
 */
import { createHash } from 'node:crypto';

import { MoebiusError } from '@moebius/core';

/** A token that is matched in the text before words are cut. */
export interface AddedToken {
  /** Its id. */
  readonly id: number;
  /** Its text. */
  readonly content: string;
  /** Whether it stands for something that is not text (end of text, padding). */
  readonly special?: boolean;
  readonly [key: string]: unknown;
}

/** A part of a tokenizer.json: its type and that type's own settings. */
export interface TokenizerPart {
  /** Names the algorithm: `BPE`, `ByteLevel`, `Sequence`, … */
  readonly type?: string;
  readonly [key: string]: unknown;
}

/** The content of a tokenizer.json. */
export interface TokenizerDefinition {
  /** Tokens beside the model's vocabulary. */
  readonly added_tokens: readonly AddedToken[];
  readonly normalizer: TokenizerPart | null;
  readonly pre_tokenizer: TokenizerPart | null;
  readonly post_processor: TokenizerPart | null;
  readonly decoder: TokenizerPart | null;
  /** Vocabulary and merges. */
  readonly model: TokenizerPart;
  readonly [key: string]: unknown;
}

/** A byte-level BPE model: one whose words are byte strings. */
export interface BytePairModel {
  /** Id of each token string. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** Merged token strings, first merge first. */
  readonly merges: readonly (readonly [string, string])[];
}

/**
 * Checks the content of a tokenizer.json.
 *
 * @param value - parsed JSON
 * @param subject - where it came from, for the message
 * @throws `format` naming the first part that is missing or of the wrong kind
 */
export function parseTokenizerDefinition(value: unknown, subject: string): TokenizerDefinition {
  const fault = (expectation: string): MoebiusError =>
    new MoebiusError({
      code: 'format',
      message: `${subject}: must be a Hugging Face tokenizer.json, got one without ${expectation} (save it with the tokenizers library, or train one)`,
      details: { subject, expectation },
    });
  if (!isRecord(value)) throw fault('an object at its top');
  for (const key of ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder']) {
    const part = value[key] ?? null;
    if (part !== null && !isRecord(part)) throw fault(`an object or null in "${key}"`);
  }
  const model = value['model'];
  if (!isRecord(model) || (!isRecord(model['vocab']) && !Array.isArray(model['vocab']))) {
    throw fault('a vocabulary in "model.vocab"');
  }
  const added = value['added_tokens'] ?? [];
  const isAdded = (token: unknown): boolean =>
    isRecord(token) && Number.isInteger(token['id']) && typeof token['content'] === 'string';
  if (!Array.isArray(added) || !added.every(isAdded))
    throw fault('a list of { id, content } in "added_tokens"');
  return {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...value,
    added_tokens: added,
  } as unknown as TokenizerDefinition;
}

/** SHA-256 of a definition, in hex; equal for files that differ only in white space and the order of keys. */
export function hashTokenizerDefinition(definition: TokenizerDefinition): string {
  return createHash('sha256')
    .update(JSON.stringify(sortKeys(definition)))
    .digest('hex');
}

/** The largest id of a definition, plus one. */
export function countVocabulary(definition: TokenizerDefinition): number {
  let largest = -1;
  const vocabulary = definition.model['vocab'];
  if (Array.isArray(vocabulary)) largest = vocabulary.length - 1;
  else for (const id of Object.values(vocabulary as Record<string, number>)) largest = Math.max(largest, id);
  for (const { id } of definition.added_tokens) largest = Math.max(largest, id);
  return largest + 1;
}

/** The vocabulary and merges of a BPE model. Merges come as pairs or, in older files, as `left right`. */
export function readBytePairModel(definition: TokenizerDefinition): BytePairModel {
  const { vocab, merges } = definition.model as {
    vocab: Record<string, number>;
    merges?: readonly (string | readonly [string, string])[];
  };
  const pairs = (merges ?? []).map((merge): readonly [string, string] => {
    if (typeof merge !== 'string') return merge;
    const space = merge.indexOf(' ');
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
  return { vocabulary: new Map(Object.entries(vocab)), merges: pairs };
}

/** Whether a tokenizer turns text to bytes before it looks words up, so that every token is a byte string. */
export function isByteLevel(definition: TokenizerDefinition): boolean {
  return includesPart(definition.decoder, 'ByteLevel');
}

/** Whether words are cut by the plain GPT-2 rule and merged by plain BPE, so that our own encoder gives the same ids. */
export function isPlainByteLevelBpe(definition: TokenizerDefinition): boolean {
  const { normalizer, pre_tokenizer: words, post_processor: after, model } = definition;
  const isPlainModel =
    model.type === 'BPE' &&
    ['dropout', 'unk_token', 'continuing_subword_prefix', 'end_of_word_suffix'].every((key) => !model[key]) &&
    model['byte_fallback'] !== true &&
    model['ignore_merges'] !== true;
  const isPlainWords =
    words?.type === 'ByteLevel' && words['add_prefix_space'] !== true && words['use_regex'] !== false;
  return (
    isPlainModel && isPlainWords && normalizer === null && (after === null || after.type === 'ByteLevel')
  );
}

function includesPart(part: TokenizerPart | null, type: string): boolean {
  if (part === null) return false;
  const nested = part['decoders'];
  return (
    part.type === type || (Array.isArray(nested) && nested.some((one: TokenizerPart) => one.type === type))
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (!isRecord(value)) return value;
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]) => [key, sortKeys(inner)]);
}
