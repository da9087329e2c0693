/** @file `moebius tokenizer`: train one, encode and decode with one. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import {
  createTokenizer,
  readTextSource,
  readTokenizer,
  trainTokenizer,
  writeTokenizer,
} from '@moebius/train';

import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { cacheFolderOf } from '../start-engine.ts';
import { formatCount, formatDuration } from '../terminal/format.ts';
import { textSourceOf } from '../text-flags.ts';

/** Flags. */
export interface TrainFlags {
  readonly data: string;
  readonly out: string;
  readonly field?: string;
  readonly vocabSize: number;
  readonly minimumCount: number;
}

/** Learns a tokenizer from text. */
export async function train(flags: TrainFlags, { host, terminal }: CommandContext): Promise<number> {
  const began = host.nowMs();
  const { workingFolder } = host;
  const source = textSourceOf(flags.data, { field: flags.field, workingFolder });
  const documents = await readTextSource(source, { cacheFolder: cacheFolderOf(host.env) });
  const texts = documents.map(({ text }) => text);
  const options = { vocabularySize: flags.vocabSize, minimumCount: flags.minimumCount };
  const made = createTokenizer(trainTokenizer(texts, options));
  const folder = resolve(workingFolder, flags.out);
  await writeTokenizer(made, folder);
  const seconds = (host.nowMs() - began) / 1000;
  const characters = texts.reduce((sum, text) => sum + text.length, 0);
  terminal.json({
    event: 'tokenizer',
    folder,
    vocabularySize: made.vocabularySize,
    documents: texts.length,
    characters,
    seconds,
  });
  terminal.line(
    `${made.vocabularySize} tokens from ${texts.length} documents (${formatCount(characters)} characters) in ${formatDuration(seconds)}: ${folder}`,
  );
  return exitCodes.ok;
}

/** Flags. */
export interface EncodeFlags {
  readonly path: string;
  readonly text: string | undefined;
  readonly file?: string;
}

/** Text to ids. */
export async function encode(flags: EncodeFlags, { host, terminal }: CommandContext): Promise<number> {
  const tokenizer = await readTokenizer(resolve(host.workingFolder, flags.path));
  if ((flags.text === undefined) === (flags.file === undefined)) {
    const got = flags.text === undefined ? 'neither' : 'both';
    throw new MoebiusError({
      code: 'configuration',
      message: `tokenizer encode: must have a text or --file, got ${got}`,
    });
  }
  const text = flags.text ?? (await readFile(resolve(host.workingFolder, flags.file ?? ''), 'utf8'));
  const ids = Array.from(tokenizer.encode(text));
  const bytes = Buffer.byteLength(text);
  terminal.json({ event: 'ids', ids, bytes });
  terminal.line(ids.join(' '));
  terminal.note(`${ids.length} tokens, ${(bytes / Math.max(1, ids.length)).toFixed(2)} bytes each`);
  return exitCodes.ok;
}

/** Ids to text. */
export async function decode(
  { path, ids: given }: { readonly path: string; readonly ids: readonly string[] },
  { host, terminal }: CommandContext,
): Promise<number> {
  const tokenizer = await readTokenizer(resolve(host.workingFolder, path));
  const ids = given
    .flatMap((text) => text.split(','))
    .filter((text) => text !== '')
    .map((text) => {
      const id = Number(text);
      if (Number.isInteger(id) && id >= 0 && id < tokenizer.vocabularySize) return id;
      throw new MoebiusError({
        code: 'configuration',
        message: `ids: must be whole numbers below ${tokenizer.vocabularySize}, got "${text}"`,
        details: { got: text, vocabularySize: tokenizer.vocabularySize },
      });
    });
  const text = tokenizer.decode(ids);
  terminal.json({ event: 'text', text });
  terminal.line(text);
  return exitCodes.ok;
}
