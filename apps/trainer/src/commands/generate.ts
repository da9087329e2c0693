/** @file `moebius generate`: continue a text with a trained model. */
import { Argument, Option } from 'commander';
import type { Command } from 'commander';

import { continueText } from '../continue-text.ts';
import { exitCodes } from '../exit-codes.ts';
import { numberFrom, wholeNumber } from '../flags.ts';
import type { CommandContext } from '../host.ts';
import { listenForInterrupt } from '../interrupt.ts';
import { openModel } from '../model-folder.ts';
import type { Start } from '../program.ts';
import { addEngineFlags, startEngine } from '../start-engine.ts';
import type { EngineFlags } from '../start-engine.ts';

const help = `
Examples:
  $ moebius generate runs/demo --prompt "The people of the United States"
  $ moebius generate runs/demo --temperature 0              always the most probable token
  $ moebius generate ./olmoe --prompt "Hello" --max-tokens 200 --top-p 0.95 --seed 7
  $ moebius generate runs/demo --prompt "We" --json | jq -r .text`;

interface GenerateFlags extends EngineFlags {
  readonly prompt: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly tokenizer?: string;
}

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
    .action((model: string, flags: GenerateFlags) => start(generateText)({ ...flags, model }));
}

async function generateText(
  flags: GenerateFlags & { readonly model: string },
  { host, terminal }: CommandContext,
): Promise<number> {
  const engine = await startEngine(flags, { host, terminal });
  const opened = await openModel(flags.model, {
    workingFolder: host.workingFolder,
    tokenizerPath: flags.tokenizer,
  });
  const interrupt = listenForInterrupt(host.signals, { onFirst: () => {} });
  try {
    const began = host.nowMs();
    terminal.text(flags.prompt);
    const made = await continueText(opened, {
      prompt: flags.prompt,
      maxNewTokens: flags.maxTokens,
      temperature: flags.temperature,
      topK: flags.topK,
      topP: flags.topP,
      seed: flags.seed,
      signal: interrupt.signal,
      onText: (piece) => terminal.text(piece),
    });
    const seconds = (host.nowMs() - began) / 1000;
    terminal.line();
    terminal.json({ event: 'text', prompt: flags.prompt, ...made, seconds, engine: engine.name });
    terminal.note(`${made.tokens} tokens, ${(made.tokens / seconds).toFixed(1)} per second`);
    return exitCodes.ok;
  } finally {
    interrupt[Symbol.dispose]();
    opened.model.dispose();
  }
}
