/** @file Runs a command line inside the test, on streams of its own: for what needs no process. */
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';

import type { Host } from '../src/host.ts';
import { runProgram } from '../src/program.ts';

/** What a command did. */
export interface Shown {
  readonly status: number;
  readonly out: string;
  readonly error: string;
}

/** What the command meets. */
export interface Surroundings {
  readonly cwd: string;
  readonly stdin?: string | Buffer;
  readonly env?: { readonly [name: string]: string };
  readonly columns?: number;
  readonly isTty?: boolean;
}

/** Runs a command to its end. */
export async function runHere(parameters: readonly string[], options: Surroundings): Promise<Shown> {
  const { cwd, stdin = '', env = {}, columns, isTty = false } = options;
  const written = { out: '', error: '' };
  const input = new PassThrough();
  input.end(stdin);
  const host: Host = {
    stdin: input,
    stdout: {
      isTTY: isTty,
      ...(columns === undefined ? {} : { columns }),
      write: (text) => (written.out += text),
    },
    stderr: { write: (text) => (written.error += text) },
    env,
    signals: Object.assign(new EventEmitter(), { exit: () => undefined }),
    commandLine: ['moebius', ...parameters].join(' '),
    workingFolder: cwd,
    nowMs: () => performance.now(),
    wallTimeMs: () => Date.now(),
    residentBytes: () => process.memoryUsage.rss(),
  };
  return { status: await runProgram(parameters, host, '0.0.0'), ...written };
}
