/** @file `moebius inspect`: what a model is and costs, from its configuration; with a text, what its routers do. */
import { Option } from 'commander';
import type { Command } from 'commander';

import { addEngineFlags } from '../engine-flags.ts';
import { collect, wholeNumber } from '../flags.ts';
import { addModelFlags } from '../model-flags.ts';
import type { Start } from '../program.ts';
import { recipeHelp } from '../recipes/registry.ts';
import type { InspectFlags } from '../work/inspect.ts';

const help = `
Examples:
  $ moebius inspect runs/demo                              a trained model
  $ moebius inspect --recipe reference                     a recipe, before it is trained
  $ moebius inspect --recipe demo --set model.num_experts=64
  $ moebius inspect ./olmoe --batch 1 --sequence 4096 --json
  $ moebius inspect runs/demo --text moby-dick             what its routers do on a text
  $ moebius inspect runs/demo --text - --json < letter.txt

Without --text nothing is built. With it the model reads the text, and of every sparse layer you see: the load of the
busiest expert over the mean, the evenness of the loads (entropy, 1 is even), the experts without a token, the mean weight
of a token's first choice, how undecided the gate is (entropy of its scores, 1 is even), and the share of each expert.

Recipes:
${recipeHelp}`;

/** Adds `inspect`. */
export function addInspect(program: Command, start: Start): void {
  const command = program
    .command('inspect')
    .description('parameters, bytes and operations of a model or recipe; its routers on a text')
    .argument('[model]', 'folder of a model or of a run; or --recipe, or --config')
    .option('--recipe <name>', 'a recipe instead of a folder (default: demo)')
    .option('--config <file>', 'a run configuration instead of a folder')
    .option('--batch <count>', 'sequences of a training batch', wholeNumber(1))
    .option('--sequence <count>', 'tokens per sequence', wholeNumber(1))
    .addOption(new Option('--set <path=value>', 'change a scalar of the recipe first').argParser(collect))
    .option('--text <source>', 'run this text through the model, - for standard input')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option('--max-tokens <count>', 'about so many tokens, spread over the text', wholeNumber(1), 16_384);
  addModelFlags(command);
  addEngineFlags(command)
    .addHelpText('after', help)
    .action((path: string | undefined, flags: Omit<InspectFlags, 'path'>) =>
      start(async () => (await import('../work/inspect.ts')).inspect)({ ...flags, path }),
    );
}
