/** @file `moebius tokenizer`: train one, encode, decode and examine with one. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';

import { MoebiusError } from '@moebius/core';
import {
  createTextStream,
  createTokenizer,
  describeTokenizer,
  readTextSource,
  readTokenizer,
  trainTokenizer,
  writeTokenizer,
} from '@moebius/train';
import type { Tokenizer } from '@moebius/train';

import { exitCodes } from '../exit-codes.ts';
import type { CommandContext, Host } from '../host.ts';
import { readNamedText, readStandardInput, standardInput } from '../measured-text.ts';
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
  const characters = texts.reduce((sum, text) => sum + text.length, 0);
  terminal.note(`text       ${texts.length} documents, ${formatCount(characters)} characters`);
  terminal.json({ event: 'prepare', stage: 'text', documents: texts.length, characters });
  const options = { vocabularySize: flags.vocabSize, minimumCount: flags.minimumCount };
  const made = createTokenizer(trainTokenizer(texts, options));
  const folder = resolve(workingFolder, flags.out);
  await writeTokenizer(made, folder);
  const seconds = (host.nowMs() - began) / 1000;
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
  readonly lines?: boolean;
}

/** Text to ids: one text, or with `--lines` one per line of standard input, answered as it comes. */
export async function encode(flags: EncodeFlags, { host, terminal }: CommandContext): Promise<number> {
  const tokenizer = await readTokenizer(resolve(host.workingFolder, flags.path));
  const tell = (text: string): number => {
    const ids = Array.from(tokenizer.encode(text));
    terminal.json({ event: 'ids', ids, bytes: Buffer.byteLength(text) });
    terminal.line(ids.join(' '));
    return ids.length;
  };
  if (flags.lines === true) {
    assertNothingBeside('encode --lines', flags.text ?? flags.file);
    for await (const line of createInterface({ input: host.stdin })) tell(line);
    return exitCodes.ok;
  }
  const text = await textToEncode(flags, host);
  const tokens = tell(text);
  terminal.note(`${tokens} tokens, ${(Buffer.byteLength(text) / Math.max(1, tokens)).toFixed(2)} bytes each`);
  return exitCodes.ok;
}

async function textToEncode({ text, file }: EncodeFlags, host: Host): Promise<string> {
  const isPiped = text === undefined && file === undefined && host.stdin.isTTY !== true;
  if (isPiped || file === standardInput) return readStandardInput(host);
  if ((text === undefined) === (file === undefined)) {
    const got = text === undefined ? 'neither' : 'both';
    throw new MoebiusError({
      code: 'configuration',
      message: `tokenizer encode: must have a text or --file, got ${got}`,
    });
  }
  return text ?? (await readFile(resolve(host.workingFolder, file ?? ''), 'utf8'));
}

/** Flags. */
export interface DecodeFlags {
  readonly path: string;
  readonly ids: readonly string[];
  readonly lines?: boolean;
}

/** Ids to text; from standard input the text is written as its characters become clear. */
export async function decode(flags: DecodeFlags, { host, terminal }: CommandContext): Promise<number> {
  const tokenizer = await readTokenizer(resolve(host.workingFolder, flags.path));
  const tell = (text: string): void => {
    terminal.json({ event: 'text', text });
    terminal.line(text);
  };
  if (flags.lines === true) {
    assertNothingBeside('decode --lines', flags.ids[0]);
    for await (const line of createInterface({ input: host.stdin })) {
      tell(tokenizer.decode(parseIds([line], tokenizer)));
    }
    return exitCodes.ok;
  }
  if (flags.ids.length > 0) {
    tell(tokenizer.decode(parseIds(flags.ids, tokenizer)));
    return exitCodes.ok;
  }
  const stream = createTextStream(tokenizer);
  let whole = '';
  const write = (piece: string): void => {
    whole += piece;
    terminal.text(piece);
  };
  for await (const line of createInterface({ input: host.stdin })) {
    for (const id of parseIds([line], tokenizer)) write(stream.push(id));
  }
  write(stream.flush());
  terminal.json({ event: 'text', text: whole });
  terminal.line();
  return exitCodes.ok;
}

function parseIds(given: readonly string[], tokenizer: Tokenizer): number[] {
  return given
    .flatMap((text) => text.split(/[\s,]+/))
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
}

/** `--lines` reads standard input and nothing else. */
function assertNothingBeside(subject: string, other: string | undefined): void {
  if (other === undefined) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `tokenizer ${subject}: must read standard input only, got "${other}" beside it (leave one of them out)`,
    details: { other },
  });
}

/** Flags. */
export interface InfoFlags {
  readonly path: string;
  readonly data?: string;
  readonly field?: string;
}

/** What a tokenizer is made of, and how it does on a text. */
export async function info(flags: InfoFlags, { host, terminal }: CommandContext): Promise<number> {
  const tokenizer = await readTokenizer(resolve(host.workingFolder, flags.path));
  const { data, field } = flags;
  const documents = data === undefined ? undefined : await readNamedText({ data, field }, host);
  const card = describeTokenizer(tokenizer, documents);
  terminal.json({ event: 'tokenizer', ...card });
  const { text } = card;
  const rows = [
    ['kind', `${card.type}${card.isByteLevel ? ', byte level' : ''}`],
    ['vocabulary', String(card.vocabularySize)],
    ['merges', String(card.merges)],
    ['special tokens', card.specialTokens.map(({ id, content }) => `${content} (${id})`).join(' ')],
    ['ends a text', `${card.endOfText.content} (${card.endOfText.id})`],
    ['longest tokens', card.longest.map((token) => JSON.stringify(token)).join(' ')],
    ['hash', card.hash],
    ...(text === undefined
      ? []
      : [
          ['text', `${formatCount(text.bytes)} bytes, ${formatCount(text.tokens)} tokens`],
          ['bytes per token', text.bytesPerToken.toFixed(3)],
          ['tokens used', `${text.usedTokens} of ${card.vocabularySize}`],
          ['comes back the same', text.isLossless ? 'yes' : 'no'],
        ]),
  ];
  for (const [name = '', value = ''] of rows) terminal.line(`${name.padEnd(17)}  ${value}`);
  return exitCodes.ok;
}
