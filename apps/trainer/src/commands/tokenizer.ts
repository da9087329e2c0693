/** @file `moebius tokenizer`: train one, encode and decode with one. */
import type { Command } from 'commander';

import { wholeNumber } from '../flags.ts';
import type { Start } from '../program.ts';
import { corpusHelp } from '../text-help.ts';

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
    .action(start(async () => (await import('../work/tokenizer.ts')).train));
  tokenizer
    .command('encode')
    .description('text to ids')
    .argument('<tokenizer>', 'a tokenizer.json or its folder')
    .argument('[text]', 'the text; or --file')
    .option('--file <path>', 'a file with the text')
    .addHelpText('after', '\nExamples:\n  $ moebius tokenizer encode runs/demo/model "We the people"')
    .action((path: string, text: string | undefined, flags: { file?: string }) =>
      start(async () => (await import('../work/tokenizer.ts')).encode)({ path, text, ...flags }),
    );
  tokenizer
    .command('decode')
    .description('ids to text')
    .argument('<tokenizer>', 'a tokenizer.json or its folder')
    .argument('<ids...>', 'ids, separated by spaces or commas')
    .addHelpText('after', '\nExamples:\n  $ moebius tokenizer decode runs/demo/model 410,260,1021')
    .action((path: string, ids: string[]) =>
      start(async () => (await import('../work/tokenizer.ts')).decode)({ path, ids }),
    );
}
