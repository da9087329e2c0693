/** @file One life of a run: a `moebius train` process that begins it or goes on with it, and may be killed. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

import { expect } from 'vitest';

import { startMoebius } from './built-cli.ts';

/** A run of so many steps with everything in it: accumulation, warm-up and decay, evaluations, checkpoints. */
export function writeConfig(folder: string, name: string, steps: number): string {
  const tiny = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8')) as object;
  const config = {
    ...tiny,
    duration: { steps },
    batch: { sequences: 2, length: 32, accumulation: 2 },
    schedule: { kind: 'cosine', warmupFraction: 0.1 },
    evaluation: { everySteps: 5, tokens: 200, finalTokens: 400 },
    checkpoint: { everySteps: 3 },
  };
  const file = join(folder, `${name}.json`);
  writeFileSync(file, JSON.stringify(config));
  return file;
}

/** How a process ended. */
export interface Life {
  readonly signal: string | null;
  readonly status: number | null;
  readonly events: readonly string[];
  readonly error: string;
}

/** Which engine, and when it dies. */
export interface LifeOptions {
  readonly engine: string;
  /** Kills when it returns true. */
  readonly isTime?: (event: string, index: number) => number | undefined;
  /** Kills so long after the start. */
  readonly afterMs?: number;
  readonly env?: { readonly [name: string]: string };
}

/** One process, in the run's parent folder: the run is begun, or resumed when there is something to resume. */
export function live(output: string, config: string, options: LifeOptions): Promise<Life> {
  const { engine, isTime = () => undefined, afterMs, env = {} } = options;
  const isBegun = existsSync(join(output, 'run.json'));
  const command = isBegun ? ['--resume', output] : ['--config', config, '--out', output];
  return new Promise((resolve, reject) => {
    const child = startMoebius(
      ['train', ...command, '--engine', engine, '--threads', '1', '--no-sample', '--json'],
      {
        cwd: dirname(output),
        env,
      },
    );
    const kill = (): boolean => child.kill('SIGKILL');
    if (afterMs !== undefined) setTimeout(kill, afterMs);
    const events: string[] = [];
    let error = '';
    child.stderr?.on('data', (chunk: Buffer) => (error += chunk.toString()));
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const event = /"event":"([a-z-]+)"/.exec(line)?.[1] ?? line;
      events.push(event);
      const wait = isTime(event, events.length);
      if (wait !== undefined) setTimeout(kill, wait);
    });
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, events, error }));
  });
}

/** It came to the end of the run by itself. */
export function expectWhole(life: Life): void {
  expect(life).toMatchObject({ status: 0, signal: null });
  expect(life.events.at(-1)).toBe('end');
}
