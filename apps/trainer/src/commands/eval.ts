/** @file `moebius eval`: loss, perplexity and bits per byte of models on text they were not trained on. */
import type { Command } from 'commander';

import { addEngineFlags } from '../engine-flags.ts';
import { capacityFactors, capacityMethodNames, capacityScope, dropKeys } from '../capacity-flags.ts';
import { positiveNumber, wholeNumber } from '../flags.ts';
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
  $ moebius eval runs/demo --capacity 2,1.5,1       what a cap on every expert costs
  $ moebius eval runs/demo --capacity 1.5,1 --drop score,order,random --method token,expanded,device --devices 4

Windows do not overlap unless --stride is given: then windows begin so many tokens apart, only tokens that no earlier
window counted are counted, and each of them (behind the first window of its document) sees at least the window's length
less the stride. The error behind ± is one standard error of bits per byte: documents are drawn again with replacement,
1,000 times. Several models are measured on the same text: --data, or what the run of the first one held out.

--capacity caps the load of every expert at so many times the mean load, and measures the model as it is, then under each
method, key and factor, on the same windows. The difference is in nats per token, with the middle 95 % of 1,000 paired
draws of documents. Devices share experts and tokens in equal runs; each caps its own tokens, unless --scope says
otherwise. The time of the sparse layers for a batch is predicted: one expert is timed on this machine, and a layer ends
when its busiest device ends. In one process a cap shortens no wait.

Methods: token (drop), expanded (drop after offering each token the other experts of its device), top-m (after offering
twice as many experts), device (cap each device, not each expert), reroute (drop and choose again, three times),
expert-drop (skip the tenth of the experts with the least load; no factor). Keys say which pairs stay: those with the
highest score, of the earliest tokens (order), of the latest (reverse), or any (random).

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
    .option('--baselines', 'also measure bigrams, unigrams and gzip (needs the training text)')
    .option('--capacity <factors>', 'capacity factors to measure, as in 2,1.5,1', capacityFactors)
    .option('--drop <keys>', 'with --capacity: score, order, reverse, random (default: score)', dropKeys)
    .option(
      '--method <names>',
      'token, expanded, top-m, device, reroute, expert-drop (default: token)',
      capacityMethodNames,
    )
    .option('--devices <count>', 'devices that share the experts (default: at most 8)', wholeNumber(1))
    .option('--scope <name>', 'whose tokens share a cap: global, rank (default) or sequence', capacityScope)
    .option('--link <GB/s>', 'speed of transfers between devices, for the predicted time', positiveNumber);
  addModelFlags(command);
  addEngineFlags(command)
    .addHelpText('after', help)
    .action((models: readonly string[], flags: Omit<EvalFlags, 'models'>) =>
      start(async () => (await import('../work/eval.ts')).evaluateModels)({ ...flags, models }),
    );
}
