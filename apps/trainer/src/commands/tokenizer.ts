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
import type { Command } from 'commander';

import { exitCodes } from '../exit-codes.ts';
import { wholeNumber } from '../flags.ts';
import type { CommandContext } from '../host.ts';
import type { Start } from '../program.ts';
import { cacheFolderOf } from '../start-engine.ts';
import { formatCount, formatDuration } from '../terminal/format.ts';
import { corpusHelp, textSourceOf } from '../text-flags.ts';

const help = `
Examples:
  $ moebius tokenizer train --data ./my-texts --vocab-size 4096 --out my-tokenizer
  $ moebius tokenizer encode my-tokenizer "We the people"
  $ moebius tokenizer decode my-tokenizer 410 260 1021
  $ moebius train --data ./my-texts --tokenizer my-tokenizer

Files are Hugging Face's tokenizer.json and tokenizer_config.json.`;

const trainHelp = `
Examples:
  $ moebius tokenizer train --data sotu --out sotu-tokenizer
  $ moebius tokenizer train --data "texts/**/*.jsonl" --field body --vocab-size 8192 --out t

Texts that come with Moebius:
${corpusHelp}`;

/** Adds `tokenizer` with its own subcommands. */
export function addTokenizer(program: Command, start: Start): void {
  const tokenizer = program
    .command('tokenizer')
    .description('train a byte-level BPE tokenizer; encode and decode with any tokenizer.json')
    .addHelpText('after', help);
  tokenizer
    .command('train')
    .description('learn a tokenizer from text')
    .requiredOption('--data <source>', 'a folder, file or glob of .txt or .jsonl, or the name of a text')
    .requiredOption('--out <folder>', 'where tokenizer.json goes')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option(
      '--vocab-size <count>',
      'entries, the 256 bytes and special tokens included',
      wholeNumber(257),
      4096,
    )
    .option('--minimum-count <count>', 'pairs that occur less often are not merged', wholeNumber(1), 2)
    .addHelpText('after', trainHelp)
    .action(start(train));
  tokenizer
    .command('encode')
    .description('text to ids')
    .argument('<tokenizer>', 'a tokenizer.json or its folder')
    .argument('[text]', 'the text; or --file')
    .option('--file <path>', 'a file with the text')
    .addHelpText('after', '\nExamples:\n  $ moebius tokenizer encode runs/demo/model "We the people"')
    .action((path: string, text: string | undefined, flags: { file?: string }) =>
      start(encode)({ path, text, ...flags }),
    );
  tokenizer
    .command('decode')
    .description('ids to text')
    .argument('<tokenizer>', 'a tokenizer.json or its folder')
    .argument('<ids...>', 'ids, separated by spaces or commas')
    .addHelpText('after', '\nExamples:\n  $ moebius tokenizer decode runs/demo/model 410,260,1021')
    .action((path: string, ids: string[]) => start(decode)({ path, ids }));
}

interface TrainFlags {
  readonly data: string;
  readonly out: string;
  readonly field?: string;
  readonly vocabSize: number;
  readonly minimumCount: number;
}

async function train(flags: TrainFlags, { host, terminal }: CommandContext): Promise<number> {
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

interface EncodeFlags {
  readonly path: string;
  readonly text: string | undefined;
  readonly file?: string;
}

async function encode(flags: EncodeFlags, { host, terminal }: CommandContext): Promise<number> {
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

async function decode(
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
