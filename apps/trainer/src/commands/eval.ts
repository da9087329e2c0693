/** @file `moebius eval`: loss, perplexity and bits per byte of models on text they were not trained on. */
import type { Command } from 'commander';

import { addEngineFlags } from '../engine-flags.ts';
import { wholeNumber } from '../flags.ts';
import { addModelFlags } from '../model-flags.ts';
import type { Start } from '../program.ts';
import { corpusHelp } from '../text-help.ts';
import type { EvalFlags } from '../work/eval.ts';

const help = `
Examples:
  $ moebius eval runs/demo                          on the text that the run held out
  $ moebius eval runs/demo --baselines              and what simple methods reach on it
  $ moebius eval ./olmoe --data ./my-texts --json
  $ moebius eval runs/demo runs/demo-2              side by side, with the error of their difference
  $ moebius eval runs/demo --by-document            the worst and the best documents
  $ moebius eval runs/demo --stride 64              every token sees at least 3/4 of a window
  $ cat letter.txt | moebius eval runs/demo --data -

Windows do not overlap unless --stride is given: then windows begin so many tokens apart, only tokens that no earlier
window counted are counted, and each of them (behind the first window of its document) sees at least the window's length
less the stride. The error behind ± is one standard error of bits per byte: documents are drawn again with replacement,
1,000 times. Several models are measured on the same text: --data, or what the run of the first one held out.

Texts that come with Moebius:
${corpusHelp}`;

/** Adds `eval`. */
export function addEval(program: Command, start: Start): void {
  const command = program
    .command('eval')
    .description('measure models on held-out text')
    .argument('<models...>', 'folders of models or of runs')
    .option('--data <source>', 'text to measure on, - for standard input (default: what the run held out)')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option('--by-document', 'also tell every document (with --json), or the worst and best ones')
    .option(
      '--max-tokens <count>',
      'about so many tokens, in windows spread over the text (default: all)',
      wholeNumber(1),
    )
    .option('--sequence <count>', 'tokens of a window (default: as trained, or 256)', wholeNumber(2))
    .option('--stride <count>', 'tokens from one window to the next (default: no overlap)', wholeNumber(1))
    .option('--batch <count>', 'windows at once', wholeNumber(1), 8)
    .option('--seed <number>', 'of the draws for the standard error', wholeNumber(0), 0)
    .option('--baselines', 'also measure bigrams, unigrams and gzip (needs the training text)');
  addModelFlags(command);
  addEngineFlags(command)
    .addHelpText('after', help)
    .action((models: readonly string[], flags: Omit<EvalFlags, 'models'>) =>
      start(async () => (await import('../work/eval.ts')).evaluateModels)({ ...flags, models }),
    );
}
