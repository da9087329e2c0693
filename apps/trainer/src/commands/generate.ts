/** @file `moebius generate`: continue texts with a trained model. */
import { Argument, Option } from 'commander';
import type { Command } from 'commander';

import { capacityFactor } from '../capacity-flags.ts';
import { addEngineFlags } from '../engine-flags.ts';
import { collect, finiteNumber, numberFrom, positiveNumber, wholeNumber } from '../flags.ts';
import { addModelFlags } from '../model-flags.ts';
import type { Start } from '../program.ts';
import type { GenerateFlags } from '../work/generate.ts';

const help = `
Temperature, top-k, top-p, min-p and the repetition penalty come from the model's generation_config.json unless a flag
says otherwise; where neither does, from --temperature 0.8 --top-p 0.95. They work in Hugging Face's order: penalties,
temperature, top-k, top-p, min-p. Without --prompt on a terminal it asks for prompts: arrow keys bring earlier ones
back (also those of earlier sessions, unless --no-history), Ctrl-C ends a text, and a second one leaves.

With --json each text is one line: { "event": "text", "index", "prompt", "text", "tokens", "finished": "stop" or "length",
"logprobs": [{ "token", "logprob" }] (with --logprobs), "seconds", "engine" }. Texts of a batch do not depend on each other:
with temperature 0 each is what it would be alone. A --capacity for prompts (prefill) is of each prompt by itself; one for
decode or both is of the batch, whose texts then compete for experts.

Examples:
  $ moebius generate runs/demo                              asks for prompts
  $ moebius generate runs/demo --prompt "The people of the United States"
  $ moebius generate runs/demo --prompt "We" --temperature 0              always the most probable token
  $ moebius generate ./olmoe --prompt "Hello" --max-tokens 200 --min-p 0.05 --repetition-penalty 1.1 --seed 7
  $ moebius generate ./olmoe --prompt "Q: Why?" --stop "Q:" --stop "###"  ends before either
  $ moebius generate runs/demo --prompt "We" --prompt "They" --json | jq -r .text
  $ moebius generate runs/demo --prompt "We" --logprobs --json | jq .logprobs
  $ moebius generate runs/demo --prompts questions.txt --batch 16     one prompt a line
  $ moebius generate runs/demo --prompts - --json < prompts.jsonl     {"prompt": "We"} a line
  $ moebius generate runs/demo --prompt "We" --capacity 1.25     drops what an expert has too much of
  $ moebius generate runs/mine --plugin ./my-router.js     a model whose router is a plug-in`;

/** Adds `generate`. */
export function addGenerate(program: Command, start: Start): void {
  const command = program
    .command('generate')
    .description('continue texts with a trained model')
    .addArgument(
      new Argument('<model>', 'folder of a model (config.json, safetensors, tokenizer.json) or of a run'),
    )
    .option('--prompt <text>', 'text to continue; several are continued together', collect)
    .addOption(
      new Option(
        '--prompts <file>',
        'prompts, one a line, or .jsonl with "prompt"; - for standard input',
      ).conflicts('prompt'),
    )
    .option('--batch <count>', 'prompts continued together', wholeNumber(1), 8)
    .option('--max-tokens <count>', 'tokens to make at most', wholeNumber(1), 120);
  addSamplingFlags(command)
    .option('--stop <text>', 'ends the text before it, may stand several times', collect)
    .option('--capacity <factor>', 'cap every expert at so many times the mean load', capacityFactor)
    .addOption(
      new Option('--capacity-for <pass>', 'with --capacity: where it acts')
        .choices(['prefill', 'decode', 'both'])
        .default('prefill'),
    )
    .option('--no-history', 'keep no prompts on disk, and show none of earlier sessions')
    .option('--logprobs', 'with --json: the log-probability of every token')
    .option('--seed <number>', 'the same seed gives the same text', wholeNumber(0), 0);
  addModelFlags(command);
  addEngineFlags(command)
    .addHelpText('after', help)
    .action((model: string, flags: GenerateFlags) =>
      start(async () => (await import('../work/generate.ts')).generateText)({ ...flags, model }),
    );
}

function addSamplingFlags(command: Command): Command {
  return command
    .option('--temperature <number>', '0 takes the most probable token', numberFrom(0))
    .option('--top-k <count>', 'only the k most probable tokens; 0 for all', wholeNumber(0))
    .option(
      '--top-p <share>',
      'only the most probable tokens that reach this probability',
      numberFrom(0.000_001, 1),
    )
    .option(
      '--min-p <share>',
      'only tokens this share as probable as the most probable one',
      numberFrom(0, 1),
    )
    .option('--repetition-penalty <number>', 'above 1: less of what prompt and text hold', positiveNumber)
    .option('--presence-penalty <number>', 'subtracted from the logits of tokens already made', finiteNumber)
    .option('--frequency-penalty <number>', 'the same, once for every time they were made', finiteNumber);
}
