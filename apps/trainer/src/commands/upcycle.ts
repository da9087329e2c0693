/** @file `moebius upcycle`: a dense model gets experts. */
import { Option } from 'commander';
import type { Command } from 'commander';

import { addEngineFlags } from '../engine-flags.ts';
import { numberFrom, wholeNumber } from '../flags.ts';
import { layerChoice } from '../layer-list.ts';
import { addModelFlags } from '../model-flags.ts';
import { addOutputFlags } from '../output-flags.ts';
import type { Start } from '../program.ts';
import type { UpcycleFlags } from '../work/upcycle.ts';

const help = `
Examples:
  $ moebius upcycle ./qwen3-dense --out ./sparse --experts 8 --top-k 2
  $ moebius upcycle runs/dense --out runs/sparse --experts 8 --top-k 2 --noise 0.02 --layers every:2
  $ moebius upcycle runs/dense --out fine --experts 32 --top-k 8 --mode granular --shards 4
  $ moebius upcycle runs/dense --out parts --experts 8 --top-k 2 --mode split --split cluster --router mean-key --json
  $ moebius upcycle runs/dense --out parts --experts 8 --top-k 8 --mode split --split co-activation --text sotu
  $ moebius train --init-from ./sparse --data ./my-texts   goes on from there

Modes:
  copy      every expert is the whole feed-forward
  granular  copies of it, each cut into --shards experts; one router row for all shards of a copy, so that a
            token gets whole copies when --shards divides --top-k
  split     one copy, cut into all experts: no more parameters than before, but for the router

A gate divides its weights by their sum, and outputs are multiplied in the output matrix, so that copy and granular compute
what the dense model computed, until noise or training tell the experts apart. The report says whether that holds, and why not.
--no-renormalise is for gates that do not (OLMoE); --placing even multiplies all three matrices, as Megatron does.
Dense models are of type qwen3, or qwen3_moe with num_experts 0.`;

/** Adds `upcycle`. */
export function addUpcycle(program: Command, start: Start): void {
  const command = program
    .command('upcycle')
    .description('give a dense model experts, so that it computes what it did before')
    .argument('<model>', 'folder of a dense model or of its run')
    .requiredOption('--experts <count>', 'experts of a sparse layer', wholeNumber(1))
    .requiredOption('--top-k <count>', 'experts of a token', wholeNumber(1))
    .addOption(
      new Option('--mode <mode>', 'how experts are made')
        .choices(['copy', 'granular', 'split'])
        .default('copy'),
    )
    .option('--shards <count>', 'with granular: experts that a copy is cut into', wholeNumber(1))
    .addOption(
      new Option('--split <way>', 'which neurons come together in an expert')
        .choices(['order', 'random', 'cluster', 'co-activation'])
        .default('order'),
    )
    .option(
      '--noise <size>',
      'normal noise on all copies but the first, relative to each matrix',
      numberFrom(0),
      0,
    )
    .option('--layers <list>', 'layers that become sparse: 0,2-5 or every:2 (default: all)', layerChoice)
    .addOption(
      new Option('--router <rows>', 'first rows of the routers')
        .choices(['random', 'zero', 'mean-key'])
        .default('random'),
    )
    .addOption(
      new Option('--placing <where>', 'where outputs are multiplied')
        .choices(['output', 'even'])
        .default('output'),
    )
    .option('--no-renormalise', 'gates that do not divide their weights by their sum')
    .option('--text <source>', 'with co-activation: the text on which neurons are watched')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option('--max-tokens <count>', 'about so many tokens of it', wholeNumber(1), 8_192)
    .option('--seed <number>', 'of routers, random splits and noise', wholeNumber(0), 0);
  addEngineFlags(addModelFlags(addOutputFlags(command)))
    .addHelpText('after', help)
    .action((path: string, flags: Omit<UpcycleFlags, 'path'>) =>
      start(async () => (await import('../work/upcycle.ts')).upcycle)({ ...flags, path }),
    );
}
