/** @file `moebius inspect`: what a model is and costs, from its configuration; nothing is built. */
import { Option } from 'commander';
import type { Command } from 'commander';

import { collect, wholeNumber } from '../flags.ts';
import type { Start } from '../program.ts';
import { recipeHelp } from '../recipes/registry.ts';
import type { InspectFlags } from '../work/inspect.ts';

const help = `
Examples:
  $ moebius inspect runs/demo                              a trained model
  $ moebius inspect --recipe reference                     a recipe, before it is trained
  $ moebius inspect --recipe demo --set model.num_experts=64
  $ moebius inspect ./olmoe --batch 1 --sequence 4096 --json

Recipes:
${recipeHelp}`;

/** Adds `inspect`. */
export function addInspect(program: Command, start: Start): void {
  program
    .command('inspect')
    .description('parameters, bytes and operations of a model or recipe')
    .argument('[model]', 'folder of a model or of a run; or --recipe, or --config')
    .option('--recipe <name>', 'a recipe instead of a folder (default: demo)')
    .option('--config <file>', 'a run configuration instead of a folder')
    .option('--batch <count>', 'sequences of a training batch', wholeNumber(1))
    .option('--sequence <count>', 'tokens per sequence', wholeNumber(1))
    .addOption(new Option('--set <path=value>', 'change a scalar of the recipe first').argParser(collect))
    .addHelpText('after', help)
    .action((path: string | undefined, flags: Omit<InspectFlags, 'path'>) =>
      start(async () => (await import('../work/inspect.ts')).inspect)({ ...flags, path }),
    );
}
