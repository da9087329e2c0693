/** @file `moebius experts`: a sparse model loses experts, gets more, or becomes dense. */
import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { addEngineFlags } from '../engine-flags.ts';
import { numberFrom, wholeNumber } from '../flags.ts';
import { addModelFlags } from '../model-flags.ts';
import { addOutputFlags } from '../output-flags.ts';
import type { Start } from '../program.ts';
import type { EditFlags, MergeFlags } from '../work/experts.ts';

const help = `
Examples:
  $ moebius experts edit runs/demo --out runs/smaller --remove 3,7
  $ moebius experts edit runs/demo --out runs/larger --add copy:0,fresh
  $ moebius experts merge runs/demo --out ./dense --method average`;

const editHelp = `
Examples:
  $ moebius experts edit runs/demo --out runs/smaller --remove 3,7
  $ moebius experts edit runs/demo --out runs/smaller --remove idle:2 --text sotu   the two of each layer with the fewest tokens
  $ moebius experts edit runs/demo --out runs/larger --add copy:0,fresh --noise 0.02 --json

Experts that stay keep every bit, in their weights and in their rows of the routers. Added ones stand behind them: a copy
with noise, or fresh. Of a run with a checkpoint, the optimizer's state goes along: moments of experts that stay are kept,
those of removed ones are gone, added ones begin without; then moebius train --resume goes on with the new folder.`;

const mergeHelp = `
Examples:
  $ moebius experts merge runs/demo --out ./dense
  $ moebius experts merge runs/demo --out ./dense --method top --count 2 --text sotu
  $ moebius experts merge runs/demo --out ./dense --method join --count 4 --json

Methods:
  average   the mean of all experts, by load with --text
  top       the mean of the --count busiest, by load
  best      the busiest alone
  low-rank  the mean of what is strongest in each, --rank directions of every matrix
  join      the --count busiest side by side: a layer as wide as all of them

The dense model is of type qwen3. Experts that differ do not add up to one layer: train it on (moebius train --init-from), or
distil it (distillationForward of @moebius/routing/surgery).`;

/** Adds `experts` with its own subcommands. */
export function addExperts(program: Command, start: Start): void {
  const experts = program
    .command('experts')
    .description('remove, add or merge the experts of a sparse model')
    .addHelpText('after', help);
  const edit = experts
    .command('edit')
    .description('remove experts and add others')
    .argument('<model>', 'folder of a model or of a run')
    .option(
      '--remove <experts>',
      'experts of every sparse layer: 3,7; or idle:2, the least loaded on --text',
      removal,
    )
    .option('--add <experts>', 'experts to add: copy:0 or fresh, several with commas', additions)
    .option('--top-k <count>', 'experts of a token (default: as before)', wholeNumber(1))
    .option('--steps <count>', 'of a run: its new length, for one that has ended', wholeNumber(1))
    .option('--noise <size>', 'on copies and their router rows, relative to each tensor', numberFrom(0), 0.01)
    .option('--seed <number>', 'of noise and fresh experts', wholeNumber(0), 0);
  addText(addOutputFlags(edit))
    .addHelpText('after', editHelp)
    .action((path: string, flags: Omit<EditFlags, 'path'>) =>
      start(async () => (await import('../work/experts.ts')).edit)({ ...flags, path }),
    );
  const merge = experts
    .command('merge')
    .description('make a dense model of a sparse one')
    .argument('<model>', 'folder of a model or of a run')
    .addOption(
      new Option('--method <method>', 'how experts become one')
        .choices(['average', 'top', 'best', 'low-rank', 'join'])
        .default('average'),
    )
    .option('--count <experts>', 'with top and join', wholeNumber(1))
    .option(
      '--rank <directions>',
      'with low-rank (default: the shorter side over the number of experts)',
      wholeNumber(1),
    );
  addText(addOutputFlags(merge))
    .addHelpText('after', mergeHelp)
    .action((path: string, flags: Omit<MergeFlags, 'path'>) =>
      start(async () => (await import('../work/experts.ts')).merge)({ ...flags, path }),
    );
}

function addText(command: Command): Command {
  const withText = command
    .option('--text <source>', 'a text on which the load of experts is measured')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option('--max-tokens <count>', 'about so many tokens, spread over the text', wholeNumber(1), 16_384);
  return addEngineFlags(addModelFlags(withText));
}

/** Experts by number, or the least loaded ones. */
export type Removal = { readonly list: readonly number[] } | { readonly idle: number };

function removal(text: string): Removal {
  const idle = /^idle:(\d+)$/.exec(text)?.[1];
  if (idle !== undefined && Number(idle) >= 1) return { idle: Number(idle) };
  const list = text.split(',').map((entry) => (/^\s*\d+\s*$/.test(entry) ? Number(entry) : NaN));
  if (list.every((expert) => Number.isSafeInteger(expert))) return { list };
  throw new InvalidArgumentError('Must be experts from 0, as in 3,7, or idle:2 for the least loaded ones.');
}

function additions(text: string): readonly ('fresh' | { readonly copyOf: number })[] {
  return text.split(',').map((entry) => {
    const copied = /^\s*copy:(\d+)\s*$/.exec(entry)?.[1];
    if (copied !== undefined) return { copyOf: Number(copied) };
    if (entry.trim() === 'fresh') return 'fresh';
    throw new InvalidArgumentError('Must be copy:<expert> or fresh, as in copy:0,fresh.');
  });
}
