/** @file What a data set is made of, and what about it should be known before it is trained on. */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { TextDocument } from './documents.ts';
import { sharedGramShares } from './shared-grams.kernel.ts';
import type { DocumentSplit } from './split.ts';
import { countTextFaults } from './text-faults.ts';
import type { TextFaults } from './text-faults.ts';
import type { TokenShard } from './token-shard.ts';

/** One side of the split. */
export interface SideReport {
  readonly documents: number;
  readonly characters: number;
  /** UTF-8 bytes. */
  readonly bytes: number;
  /** End-of-text left out. */
  readonly tokens: number;
  /** UTF-8 bytes of a token, on average. */
  readonly bytesPerToken: number;
  /** The longest document. */
  readonly longest: { readonly name: string; readonly tokens: number };
}

/** A token and how often it occurs in the training text. */
export interface TokenCount {
  readonly id: number;
  /** Its text; bytes that are no text by themselves are U+FFFD. */
  readonly text: string;
  readonly count: number;
}

/** A document whose text another one has too. */
export interface DuplicateDocument {
  readonly name: string;
  /** The first document with the same text. */
  readonly sameAs: string;
}

/** A held-out document that stands, in part, word for word in the training text. */
export interface SharedDocument {
  readonly name: string;
  /** Share of its 13-grams of tokens that the training text has. */
  readonly share: number;
}

/** Signs of a bad encoding in one document. */
export interface FaultyDocument extends TextFaults {
  readonly name: string;
}

/** A data set in numbers. */
export interface DatasetReport {
  readonly training: SideReport;
  readonly heldOut: SideReport;
  readonly vocabularySize: number;
  /** Entries of the vocabulary that the training text uses. */
  readonly usedTokens: number;
  /** The most frequent tokens of the training text. */
  readonly frequent: readonly TokenCount[];
  /** Documents that occur twice in the training text. */
  readonly repeated: readonly DuplicateDocument[];
  /** Held-out documents that are trained on. */
  readonly leaked: readonly DuplicateDocument[];
  /** Held-out documents of which at least a fifth is trained on; whole ones are in `leaked`. */
  readonly shared: readonly SharedDocument[];
  /** Documents with signs of a bad encoding. */
  readonly faulty: readonly FaultyDocument[];
}

/** A data set, with its text. */
export interface DescribedDataset {
  readonly split: DocumentSplit;
  readonly tokenizer: Tokenizer;
  readonly training: TokenShard;
  readonly heldOut: TokenShard;
}

/** As in the reports on large models' contamination; shorter ones are phrases. */
const gramSize = 13;
const sharedFrom = 0.2;
const frequentTokens = 20;

/** Describes a data set: sizes, tokens, duplicates across the split, signs of a bad encoding. */
export function describeDataset({ split, tokenizer, training, heldOut }: DescribedDataset): DatasetReport {
  const counts = countTokens(training);
  const firstTraining = firstByText(split.training);
  const leaked = split.heldOut.flatMap(({ name, text }) => {
    const sameAs = firstTraining.get(text);
    return sameAs === undefined ? [] : [{ name, sameAs }];
  });
  const leakedNames = new Set(leaked.map(({ name }) => name));
  const shares = sharedGramShares(training, heldOut, gramSize);
  return {
    training: describeSide(split.training, training),
    heldOut: describeSide(split.heldOut, heldOut),
    vocabularySize: tokenizer.vocabularySize,
    usedTokens: counts.filter((count) => count > 0).length,
    frequent: mostFrequent(counts, tokenizer),
    repeated: split.training.flatMap(({ name, text }) => {
      const sameAs = firstTraining.get(text) ?? name;
      return sameAs === name ? [] : [{ name, sameAs }];
    }),
    leaked,
    shared: split.heldOut.flatMap(({ name }, index) => {
      const share = shares[index] ?? 0;
      return share < sharedFrom || leakedNames.has(name) ? [] : [{ name, share }];
    }),
    faulty: [...split.training, ...split.heldOut].flatMap(({ name, text }) => {
      const faults = countTextFaults(text);
      return Object.values(faults).some((count) => count > 0) ? [{ name, ...faults }] : [];
    }),
  };
}

function describeSide(documents: readonly TextDocument[], shard: TokenShard): SideReport {
  const bytes = shard.bytes.reduce((sum, count) => sum + count, 0);
  const tokens = shard.tokens.length - documents.length;
  let longest = { name: '', tokens: 0 };
  for (const [index, { name }] of documents.entries()) {
    const size = (shard.starts[index + 1] ?? 0) - (shard.starts[index] ?? 0) - 1;
    if (size > longest.tokens) longest = { name, tokens: size };
  }
  return {
    documents: documents.length,
    characters: documents.reduce((sum, { text }) => sum + text.length, 0),
    bytes,
    tokens,
    bytesPerToken: bytes / Math.max(1, tokens),
    longest,
  };
}

/** Occurrences of every id; end-of-text stands before each document and does not count. */
function countTokens({ tokens, starts, vocabularySize }: TokenShard): Float64Array {
  const counts = new Float64Array(vocabularySize);
  for (const id of tokens) counts[id] = (counts[id] ?? 0) + 1;
  const endOfText = tokens[0] ?? 0;
  counts[endOfText] = (counts[endOfText] ?? 0) - (starts.length - 1);
  return counts;
}

function mostFrequent(counts: Float64Array, tokenizer: Tokenizer): TokenCount[] {
  return Array.from(counts, (count, id) => ({ id, count }))
    .filter(({ count }) => count > 0)
    .toSorted((left, right) => right.count - left.count || left.id - right.id)
    .slice(0, frequentTokens)
    .map(({ id, count }) => ({ id, text: tokenizer.decode([id]), count }));
}

function firstByText(documents: readonly TextDocument[]): ReadonlyMap<string, string> {
  const first = new Map<string, string>();
  for (const { name, text } of documents) if (!first.has(text)) first.set(text, name);
  return first;
}
