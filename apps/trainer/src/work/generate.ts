/** @file `moebius generate`: continue a text with a trained model. */
import { continueText } from '../continue-text.ts';
import type { EngineFlags } from '../engine-flags.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { listenForInterrupt } from '../interrupt.ts';
import { openModel } from '../model-folder.ts';
import { startEngine } from '../start-engine.ts';

/** Flags. */
export interface GenerateFlags extends EngineFlags {
  readonly prompt: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly tokenizer?: string;
}

/** Continues a text. */
export async function generateText(
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
