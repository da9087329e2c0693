import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { MoebiusError } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { askForPrompts } from './prompt-loop.ts';

const ctrlC = '\u0003';
const ctrlD = '\u0004';
const arrowUp = '\u001b[A';

/** A person at a terminal; answers end at once, or when they are stopped. */
function sit(options: { readonly untilStopped?: boolean; readonly history?: readonly string[] } = {}) {
  const stdin = new PassThrough();
  const signals = new EventEmitter();
  const answered: string[] = [];
  const stopped: string[] = [];
  let shown = '';
  const stdout = Object.assign(new PassThrough(), { columns: 80 });
  stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
  const answer = async (prompt: string, signal: AbortSignal): Promise<void> => {
    answered.push(prompt);
    if (options.untilStopped !== true) return;
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    stopped.push(prompt);
    throw new MoebiusError({ code: 'aborted', message: 'stopped', details: {} });
  };
  const remembered: string[] = [];
  const { history = [] } = options;
  const done = askForPrompts(
    { stdin, stdout, signals },
    { answer, history, onHistory: (line) => void remembered.push(line) },
  );
  const type = async (keys: string | Buffer): Promise<void> => {
    stdin.write(keys);
    for (let turn = 0; turn < 20; turn += 1) await nextTurn();
  };
  return { type, done, answered, stopped, signals, remembered, shown: () => shown };
}

describe('askForPrompts', () => {
  it('answers line after line until Ctrl-D', async () => {
    const { type, done, answered, shown } = sit();
    await type('first\r');
    await type('second\r');
    await type(ctrlD);
    await done;
    expect(answered).toEqual(['first', 'second']);
    expect(shown()).toContain('> ');
  });

  it('brings earlier prompts back', async () => {
    const { type, done, answered } = sit();
    await type('once\r');
    await type(arrowUp);
    await type(' more\r');
    await type(ctrlD);
    await done;
    expect(answered).toEqual(['once', 'once more']);
  });

  it('brings back lines of earlier sessions, and tells what it takes into the history', async () => {
    const { type, done, answered, remembered } = sit({ history: ['newest', 'older'] });
    await type(`${arrowUp}${arrowUp}\r`);
    await type('\r');
    await type('mine\r');
    await type(ctrlD);
    await done;
    expect(answered).toEqual(['older', '', 'mine']);
    expect(remembered).toEqual(['older', 'mine']);
  });

  it('takes a marked paste of several lines as one prompt, and other lines one after the other', async () => {
    const { type, done, answered, shown } = sit();
    await type('\u001b[200~one\rtwo\r\rthree\u001b[201~ four\r');
    await type('five\rsix\r');
    await type(ctrlD);
    await done;
    expect(answered).toEqual(['one\ntwo\n\nthree four', 'five', 'six']);
    expect(shown()).toContain('\u001b[?2004h');
    expect(shown().endsWith('\u001b[?2004l')).toBe(true);
  });

  it('puts characters together that come in pieces', async () => {
    const { type, done, answered } = sit();
    const bytes = Buffer.from('naïve 🙂 whale');
    for (let at = 0; at < bytes.length; at += 1) await type(bytes.subarray(at, at + 1));
    await type('\r');
    await type(ctrlD);
    await done;
    expect(answered).toEqual(['naïve 🙂 whale']);
  });

  it('loses no line that is typed while a text is made', async () => {
    const { type, done, answered } = sit({ untilStopped: true });
    await type('first\r');
    await type('second\r');
    await type(ctrlC);
    expect(answered).toEqual(['first', 'second']);
    await type(ctrlC);
    await type(ctrlC);
    await done;
  });

  it('ends a text at Ctrl-C and leaves at the second', async () => {
    const { type, done, answered, stopped } = sit({ untilStopped: true });
    await type('long\r');
    expect([answered, stopped]).toEqual([['long'], []]);
    await type(ctrlC);
    expect(stopped).toEqual(['long']);
    await type('again\r');
    await type(ctrlC);
    expect(stopped).toEqual(['long', 'again']);
    await type(ctrlC);
    await done;
    expect(answered).toEqual(['long', 'again']);
  });

  it('listens to signals only while it runs, and SIGTERM leaves from the middle of a text', async () => {
    const { type, done, stopped, signals } = sit({ untilStopped: true });
    await type('long\r');
    signals.emit('SIGTERM');
    await done;
    expect(stopped).toEqual(['long']);
    expect(signals.listenerCount('SIGINT') + signals.listenerCount('SIGTERM')).toBe(0);
  });

  it('lets faults of a text through', async () => {
    const stdin = new PassThrough();
    const done = askForPrompts(
      { stdin, stdout: new PassThrough(), signals: new EventEmitter() },
      { answer: () => Promise.reject(new Error('broken')) },
    );
    stdin.write('x\r');
    await expect(done).rejects.toThrow('broken');
  });
});
