/** @file `moebius generate`: continue a text with a trained model. */
import { Argument, Option } from 'commander';
import type { Command } from 'commander';

import { addEngineFlags } from '../engine-flags.ts';
import { numberFrom, wholeNumber } from '../flags.ts';
import type { Start } from '../program.ts';
import type { GenerateFlags } from '../work/generate.ts';

const help = `
Examples:
  $ moebius generate runs/demo --prompt "The people of the United States"
  $ moebius generate runs/demo --temperature 0              always the most probable token
  $ moebius generate ./olmoe --prompt "Hello" --max-tokens 200 --top-p 0.95 --seed 7
  $ moebius generate runs/demo --prompt "We" --json | jq -r .text`;

/** Adds `generate`. */
export function addGenerate(program: Command, start: Start): void {
  const command = program
    .command('generate')
    .description('continue a text with a trained model')
    .addArgument(
      new Argument('<model>', 'folder of a model (config.json, safetensors, tokenizer.json) or of a run'),
    )
    .addOption(new Option('--prompt <text>', 'text to continue').default('', 'a new text'))
    .option('--max-tokens <count>', 'tokens to make at most', wholeNumber(1), 120)
    .option('--temperature <number>', '0 takes the most probable token', numberFrom(0), 0.8)
    .option('--top-k <count>', 'only the k most probable tokens; 0 for all', wholeNumber(0), 0)
    .option(
      '--top-p <share>',
      'only the most probable tokens that reach this probability',
      numberFrom(0.000_001, 1),
      0.95,
    )
    .option('--seed <number>', 'the same seed gives the same text', wholeNumber(0), 0)
    .option('--tokenizer <path>', 'tokenizer.json, when it is not in the folder');
  addEngineFlags(command)
    .addHelpText('after', help)
    .action((model: string, flags: GenerateFlags) =>
      start(async () => (await import('../work/generate.ts')).generateText)({ ...flags, model }),
    );
}
