/** @file The flags that change a run's configuration; `train` and `bench` have them. */
import { Option } from 'commander';
import type { Command } from 'commander';

import { addEngineFlags } from './engine-flags.ts';
import { collect, fractionBelowOne, positiveNumber, wholeNumber } from './flags.ts';

/**
 * Adds the flags of {@link RunFlags}.
 *
 * @param options - `duration`: also those that say how long, and where the output goes (default true)
 */
export function addRunFlags(command: Command, options: { readonly duration?: boolean } = {}): Command {
  const { duration = true } = options;
  command
    .option('--recipe <name>', 'which run: demo, smoke, reference or study')
    .addOption(
      new Option('--config <file>', 'a run configuration (JSON) instead of a recipe').conflicts('recipe'),
    )
    .option('--data <source>', 'text: a folder, file or glob of .txt or .jsonl, or the name of a text')
    .option('--val-data <source>', 'held-out text of its own (default: part of --data)')
    .option('--replay <source>', 'text mixed in, a quarter of the sequences (see data.replay.share)')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option('--tokenizer <path>', 'a tokenizer.json instead of a trained one')
    .option('--init-from <folder>', 'begin with the weights and tokenizer of a saved model or run');
  if (duration) addDurationFlags(command);
  command
    .option('--batch <count>', 'sequences of a step', wholeNumber(1))
    .option('--sequence <count>', 'tokens of a sequence', wholeNumber(2))
    .option('--lr <number>', 'highest learning rate', positiveNumber)
    .option('--seed <number>', 'of weights and data order', wholeNumber(0));
  if (duration) addStabilityFlags(command);
  addEngineFlags(command);
  return command.addOption(
    new Option(
      '--set <path=value>',
      'change any other scalar of the configuration; may be repeated',
    ).argParser(collect),
  );
}

function addStabilityFlags(command: Command): void {
  command
    .option('--ema <decay>', 'average the weights; 0.999 looks back about 1,000 steps', fractionBelowOne)
    .option(
      '--early-stop <patience>',
      'end after so many evaluations without a gain; the best weights are kept',
      wholeNumber(1),
    )
    .addOption(
      new Option('--on-nonfinite <what>', 'what to do about a loss or gradient that is not finite').choices([
        'stop',
        'skip',
      ]),
    );
}

function addDurationFlags(command: Command): void {
  command
    .option('--steps <count>', 'how long, in steps', wholeNumber(1))
    .addOption(
      new Option('--minutes <number>', 'how long, in minutes of training')
        .argParser(positiveNumber)
        .conflicts('steps'),
    )
    .option('--out <folder>', 'where metrics, checkpoints and the model go')
    .option(
      '--tensorboard [folder]',
      'also write event files for TensorBoard (default: into the output folder)',
    );
}
