/**
 * @file Asks for prompts on a terminal, one after the other, with line editing and history.
 *
 * Ctrl-C while a text is made ends that text; where nothing is made, or a second time before it ended, it leaves.
 * Ctrl-D (the end of the input) leaves too.
 */
import { createInterface } from 'node:readline';

import { isMoebiusError } from '@moebius/core';

import type { SignalSource } from './interrupt.ts';
import { historySize } from './prompt-history.ts';
import { collectTypedLines, markPastes } from './typed-lines.ts';

/** What the loop reads from and writes to; a {@link Host} fits. */
export interface PromptStreams {
  /** What a person types. */
  readonly stdin: NodeJS.ReadableStream;
  /** Where the line is edited. */
  readonly stdout: { write(text: string): unknown };
  /** Signals that do not come through the keyboard. */
  readonly signals: Pick<SignalSource, 'on' | 'off'>;
}

/** How the loop answers. */
export interface PromptLoopOptions {
  /** Makes a text; an `aborted` error means that the signal ended it. */
  readonly answer: (prompt: string, signal: AbortSignal) => Promise<void>;
  /** Lines of earlier sessions, newest first. */
  readonly history?: readonly string[];
  /** Told each line that the history takes. */
  readonly onHistory?: (line: string) => void;
}

/**
 * Runs the loop until the person leaves.
 *
 * @throws what `answer` throws, other than `aborted`
 */
export async function askForPrompts(streams: PromptStreams, options: PromptLoopOptions): Promise<void> {
  const { stdin, stdout, signals } = streams;
  const { history = [], onHistory = () => {} } = options;
  const output = stdout as NodeJS.WritableStream;
  const settings = { input: stdin, output, terminal: true, historySize, history: [...history] };
  const lines = createInterface({ ...settings, prompt: '> ' });
  const typed = collectTypedLines(lines, stdin);
  const leaving = new AbortController();
  let making: AbortController | null = null;
  const interrupt = (): void => {
    if (making === null || making.signal.aborted) leaving.abort();
    making?.abort();
  };
  const leave = (): void => {
    leaving.abort();
    making?.abort();
  };
  lines.on('SIGINT', interrupt).on('close', leave);
  lines.on('history', ([newest]: string[]) => newest !== undefined && onHistory(newest));
  signals.on('SIGINT', interrupt);
  signals.on('SIGTERM', leave);
  stdout.write(markPastes.on);
  try {
    for (;;) {
      lines.prompt();
      const prompt = await typed.next(leaving.signal);
      if (prompt === null) break;
      making = new AbortController();
      await answerUnlessStopped(options, { prompt, signal: making.signal });
      making = null;
      stdout.write('\n');
    }
    stdout.write('\n');
  } finally {
    stdout.write(markPastes.off);
    signals.off('SIGINT', interrupt);
    signals.off('SIGTERM', leave);
    lines.close();
  }
}

async function answerUnlessStopped(
  { answer }: PromptLoopOptions,
  { prompt, signal }: { readonly prompt: string; readonly signal: AbortSignal },
): Promise<void> {
  try {
    await answer(prompt, signal);
  } catch (error) {
    if (!(signal.aborted && isMoebiusError(error, 'aborted'))) throw error;
  }
}
