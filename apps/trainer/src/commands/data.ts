/** @file `moebius data`: text made ready to train on, and what is in it. */
import type { Command } from 'commander';

import { collect } from '../flags.ts';
import type { Start } from '../program.ts';
import { corpusHelp } from '../text-help.ts';
import type { DataFlags } from '../work/data.ts';

const help = `
Examples:
  $ moebius data prepare ./my-texts                     tokenizer and token shards into the cache, nothing trained
  $ moebius data info ./my-texts                        documents, tokens, duplicates, encoding problems
  $ moebius data info "texts/**/*.jsonl" --field body --json

Texts that come with Moebius:
${corpusHelp}`;

const prepareHelp = `
Examples:
  $ moebius data prepare ./my-texts
  $ moebius data prepare --recipe reference             what the recipe would prepare
  $ moebius data prepare --config my.json --json

Takes the split and the tokenizer of a run (default: those of the demo; change them with --set data.heldOutFraction=0.2 or
--set tokenizer.vocabularySize=4096), so that moebius train with the same flags finds everything made.`;

const infoHelp = `
Examples:
  $ moebius data info sotu
  $ moebius data info ./my-texts --val-data ./held-out
  $ moebius data info ./my-texts --tokenizer ./olmoe --json | jq .training.bytesPerToken

Files that cannot be used are named and left out. A held-out document counts as shared when at least a fifth of its runs of
13 tokens stand in the training text. Status 0 also when there are warnings.`;

/** Adds `data` with its own subcommands. */
export function addData(program: Command, start: Start): void {
  const data = program
    .command('data')
    .description('prepare text for training; say what is in it')
    .addHelpText('after', help);
  addDataFlags(data.command('prepare').description('make tokenizer and token shards, without training'))
    .addHelpText('after', prepareHelp)
    .action((source: string | undefined, flags: DataFlags) =>
      start(async () => (await import('../work/data.ts')).prepare)(withSource(flags, source)),
    );
  addDataFlags(data.command('info').description('documents, tokens, split, duplicates, encoding problems'))
    .addHelpText('after', infoHelp)
    .action((source: string | undefined, flags: DataFlags) =>
      start(async () => (await import('../work/data.ts')).info)(withSource(flags, source)),
    );
}

function addDataFlags(command: Command): Command {
  return command
    .argument('[source]', 'a folder, file or glob of .txt or .jsonl, or the name of a text')
    .option('--recipe <name>', 'text, split and tokenizer of a recipe (default: demo)')
    .option('--config <file>', 'text, split and tokenizer of a run configuration')
    .option('--val-data <source>', 'held-out text of its own (default: part of the text)')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option('--tokenizer <path>', 'a tokenizer.json instead of a trained one')
    .option('--set <path=value>', 'change a scalar of the configuration; may be repeated', collect);
}

function withSource(flags: DataFlags, source: string | undefined): DataFlags {
  return source === undefined ? flags : { ...flags, data: source };
}
