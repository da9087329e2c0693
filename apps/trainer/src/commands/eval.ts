/** @file `moebius eval`: loss, perplexity and bits per byte of a model on text it was not trained on. */
import type { Command } from 'commander';

import { addEngineFlags } from '../engine-flags.ts';
import { wholeNumber } from '../flags.ts';
import type { Start } from '../program.ts';
import { corpusHelp } from '../text-help.ts';
import type { EvalFlags } from '../work/eval.ts';

const help = `
Examples:
  $ moebius eval runs/demo                          on the text that the run held out
  $ moebius eval runs/demo --baselines              and what simple methods reach on it
  $ moebius eval ./olmoe --data ./my-texts --json

Texts that come with Moebius:
${corpusHelp}`;

/** Adds `eval`. */
export function addEval(program: Command, start: Start): void {
  const command = program
    .command('eval')
    .description('measure a model on held-out text')
    .argument('<model>', 'folder of a model or of a run')
    .option('--data <source>', 'text to measure on (default: what the run held out)')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option(
      '--max-tokens <count>',
      'whole documents up to about so many tokens (default: all)',
      wholeNumber(1),
    )
    .option('--sequence <count>', 'tokens of a window (default: as trained, or 256)', wholeNumber(2))
    .option('--batch <count>', 'windows at once', wholeNumber(1), 8)
    .option('--baselines', 'also measure bigrams, unigrams and gzip (needs the training text)')
    .option('--tokenizer <path>', 'tokenizer.json, when it is not in the folder');
  addEngineFlags(command)
    .addHelpText('after', help)
    .action((path: string, flags: Omit<EvalFlags, 'path'>) =>
      start(async () => (await import('../work/eval.ts')).evaluateModel)({ ...flags, path }),
    );
}
