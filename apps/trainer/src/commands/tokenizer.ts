/** @file `moebius tokenizer`: train one, encode and decode with one. */
import type { Command } from 'commander';

import { wholeNumber } from '../flags.ts';
import type { Start } from '../program.ts';
import { corpusHelp } from '../text-help.ts';
import type { DecodeFlags, EncodeFlags, InfoFlags } from '../work/tokenizer.ts';

const help = `
Examples:
  $ moebius tokenizer train --data ./my-texts --vocab-size 4096 --out my-tokenizer
  $ moebius tokenizer encode my-tokenizer "We the people"
  $ moebius tokenizer decode my-tokenizer 410 260 1021
  $ moebius tokenizer info my-tokenizer --data ./my-texts
  $ moebius train --data ./my-texts --tokenizer my-tokenizer

Files are Hugging Face's tokenizer.json and tokenizer_config.json.`;

const trainHelp = `
Examples:
  $ moebius tokenizer train --data sotu --out sotu-tokenizer
  $ moebius tokenizer train --data "texts/**/*.jsonl" --field body --vocab-size 8192 --out t

Texts that come with Moebius:
${corpusHelp}`;

const encodeHelp = `
Examples:
  $ moebius tokenizer encode runs/demo/model "We the people"
  $ moebius tokenizer encode runs/demo/model --file letter.txt --json | jq .ids
  $ tail -f log.txt | moebius tokenizer encode runs/demo/model --lines`;

const decodeHelp = `
Examples:
  $ moebius tokenizer decode runs/demo/model 410,260,1021
  $ moebius tokenizer encode runs/demo/model "We" | moebius tokenizer decode runs/demo/model`;

const infoHelp = `
Examples:
  $ moebius tokenizer info runs/demo/model
  $ moebius tokenizer info ./olmoe --data ./my-texts --json | jq .text.bytesPerToken`;

/** Adds `tokenizer` with its own subcommands. */
export function addTokenizer(program: Command, start: Start): void {
  const tokenizer = program
    .command('tokenizer')
    .description('train a byte-level BPE tokenizer; encode, decode and examine with any tokenizer.json')
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
    .action(start(async () => (await import('../work/tokenizer.ts')).train));
  tokenizer
    .command('encode')
    .description('text to ids')
    .argument('<tokenizer>', 'a tokenizer.json or its folder')
    .argument('[text]', 'the text; or --file, or standard input')
    .option('--file <path>', 'a file with the text, - for standard input')
    .option('--lines', 'each line is a text of its own, answered as it comes')
    .addHelpText('after', encodeHelp)
    .action((path: string, text: string | undefined, flags: Omit<EncodeFlags, 'path' | 'text'>) =>
      start(async () => (await import('../work/tokenizer.ts')).encode)({ path, text, ...flags }),
    );
  tokenizer
    .command('decode')
    .description('ids to text')
    .argument('<tokenizer>', 'a tokenizer.json or its folder')
    .argument('[ids...]', 'ids, separated by spaces or commas; or standard input')
    .option('--lines', 'each line is a text of its own, answered as it comes')
    .addHelpText('after', decodeHelp)
    .action((path: string, ids: string[], flags: Omit<DecodeFlags, 'path' | 'ids'>) =>
      start(async () => (await import('../work/tokenizer.ts')).decode)({ path, ids, ...flags }),
    );
  tokenizer
    .command('info')
    .description('what a tokenizer is made of, and how it does on a text')
    .argument('<tokenizer>', 'a tokenizer.json or its folder')
    .option('--data <source>', 'also measure it on this text, - for standard input')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .addHelpText('after', infoHelp)
    .action((path: string, flags: Omit<InfoFlags, 'path'>) =>
      start(async () => (await import('../work/tokenizer.ts')).info)({ path, ...flags }),
    );
}
