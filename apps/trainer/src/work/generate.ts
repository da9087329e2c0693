/** @file `moebius generate`: continue texts with a trained model. */
import { capModel } from '@moebius/model';
import { capacityPolicy, parseCapacityConfig } from '@moebius/routing';

import { continueTexts } from '../continue-text.ts';
import type { MadeText, TextsRequest } from '../continue-text.ts';
import type { EngineFlags } from '../engine-flags.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { listenForInterrupt } from '../interrupt.ts';
import type { ModelFlags } from '../model-flags.ts';
import { openModel } from '../model-folder.ts';
import type { LoadedModel } from '../model-folder.ts';
import { readPrompts } from '../named-prompts.ts';
import { appendHistory, historyFileOf, readHistory } from '../prompt-history.ts';
import { askForPrompts } from '../prompt-loop.ts';
import { resolveSampling } from '../sampling-flags.ts';
import type { SamplingFlags } from '../sampling-flags.ts';
import { startEngine } from '../start-engine.ts';

/** Flags. */
export interface GenerateFlags extends EngineFlags, ModelFlags, SamplingFlags {
  readonly prompt?: readonly string[];
  readonly prompts?: string;
  readonly batch: number;
  readonly history: boolean;
  readonly maxTokens: number;
  readonly stop?: readonly string[];
  readonly logprobs?: boolean;
  readonly capacity?: number;
  readonly capacityFor: 'prefill' | 'decode' | 'both';
  readonly seed: number;
}

/** Everything of a request but its prompts. */
type Settings = Omit<TextsRequest, 'prompts' | 'onText' | 'signal'>;

interface Making {
  readonly opened: LoadedModel;
  readonly settings: Settings;
  readonly engineName: string;
  readonly context: CommandContext;
}

/** Continues texts: those of `--prompt`, or those that a person writes on a terminal. */
export async function generateText(
  flags: GenerateFlags & { readonly model: string },
  context: CommandContext,
): Promise<number> {
  const { host, terminal } = context;
  const prompts = flags.prompts === undefined ? flags.prompt : await readPrompts(flags.prompts, host);
  const engine = await startEngine(flags, context);
  const opened = await openModel(flags.model, flags, host);
  const settings: Settings = {
    ...resolveSampling(flags, opened.model.generation),
    maxNewTokens: flags.maxTokens,
    stop: flags.stop ?? [],
    logprobs: flags.logprobs === true,
    seed: flags.seed,
  };
  const capped = capOpened(opened, flags);
  const making: Making = { opened: capped, settings, engineName: engine.name, context };
  try {
    const asks = prompts === undefined && terminal.isInteractive && host.stdin.isTTY === true;
    return asks
      ? await converse(making, flags.history)
      : await makeOnce(making, prompts ?? [''], flags.batch);
  } finally {
    if (capped !== opened) capped.model.dispose();
    opened.model.dispose();
  }
}

/** A prompt is capped by itself; tokens that are decoded together share a cap. */
function capOpened(
  opened: LoadedModel,
  { capacity: gamma, capacityFor: applyTo }: Pick<GenerateFlags, 'capacity' | 'capacityFor'>,
): LoadedModel {
  if (gamma === undefined) return opened;
  const scope = applyTo === 'prefill' ? 'sequence' : 'global';
  const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma, scope, applyTo }));
  return { ...opened, model: capModel(opened.model, policy) };
}

/** All prompts, so many at once. */
async function makeOnce(making: Making, prompts: readonly string[], batch: number): Promise<number> {
  const interrupt = listenForInterrupt(making.context.host.signals, { onFirst: () => {} });
  try {
    for (let first = 0; first < prompts.length; first += batch) {
      const turn = { prompts: prompts.slice(first, first + batch), first, of: prompts.length };
      await makeTexts(making, { ...turn, seed: making.settings.seed ?? 0, signal: interrupt.signal });
    }
    return exitCodes.ok;
  } finally {
    interrupt[Symbol.dispose]();
  }
}

/** Every text has the next seed, so that the same prompt twice gives two texts. */
async function converse(making: Making, keepsHistory: boolean): Promise<number> {
  const { host, terminal } = making.context;
  let seed = making.settings.seed ?? 0;
  terminal.note('Ctrl-C ends a text, a second one leaves; Ctrl-D leaves');
  const file = historyFileOf(host.env);
  let kept = Promise.resolve();
  await askForPrompts(host, {
    history: keepsHistory ? await readHistory(file) : [],
    onHistory: (line) => {
      if (keepsHistory) kept = kept.then(() => appendHistory(file, line));
    },
    answer: async (prompt, signal) => {
      await makeTexts(making, { prompts: [prompt], first: 0, of: 1, seed, signal });
      seed += 1;
    },
  });
  await kept;
  return exitCodes.ok;
}

interface Turn {
  readonly prompts: readonly string[];
  /** Index of the first one among all. */
  readonly first: number;
  /** How many prompts there are in all. */
  readonly of: number;
  readonly seed: number;
  readonly signal: AbortSignal;
}

/** One text is shown as it comes, several when all are made. */
async function makeTexts(making: Making, turn: Turn): Promise<void> {
  const { prompts, first, seed, signal } = turn;
  const { opened, settings, context } = making;
  const { host, terminal } = context;
  const began = host.nowMs();
  const [only = ''] = prompts;
  const isOne = turn.of === 1;
  if (isOne) terminal.text(only);
  const made = await continueTexts(opened, {
    ...settings,
    prompts,
    firstPlace: first,
    seed,
    signal,
    onText: (piece) => {
      if (isOne) terminal.text(piece);
    },
  });
  const seconds = (host.nowMs() - began) / 1000;
  if (isOne) terminal.line();
  else showAll(turn, made, context);
  for (const [index, prompt] of prompts.entries()) {
    terminal.json({
      event: 'text',
      index: first + index,
      prompt,
      ...made[index],
      seconds,
      engine: making.engineName,
    });
  }
  const tokens = made.reduce((sum, text) => sum + text.tokens, 0);
  terminal.note(`${tokens} tokens, ${(tokens / seconds).toFixed(1)} per second`);
}

function showAll({ prompts, first }: Turn, made: readonly MadeText[], { terminal }: CommandContext): void {
  for (const [index, prompt] of prompts.entries()) {
    if (first + index > 0) terminal.line();
    terminal.line(terminal.strong(`[${first + index + 1}]`));
    terminal.text(prompt + (made[index]?.text ?? ''));
    terminal.line();
  }
}
