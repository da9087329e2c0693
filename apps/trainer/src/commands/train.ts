/** @file `moebius train`: a run from a recipe or a file, shown as it goes, saved, resumable. */
import type { Command } from 'commander';

import { wholeNumber } from '../flags.ts';
import type { Start } from '../program.ts';
import { addRunFlags } from '../run-flags.ts';
import { trainHelp } from '../train-help.ts';

/** Adds `train`. */
export function addTrain(program: Command, start: Start): void {
  const command = program.command('train').description('train a model (default: the demo recipe)');
  addRunFlags(command)
    .option('--resume <folder>', 'go on with the run of this folder, with its own configuration')
    .option('--overwrite', 'start anew in an output folder that holds a run')
    .option('--log-steps <count>', 'steps between plain lines of progress (default: by time)', wholeNumber(1))
    .option('--no-sample', 'no text at the end')
    .addHelpText('after', trainHelp)
    .action(start(async () => (await import('../work/train.ts')).train));
}
