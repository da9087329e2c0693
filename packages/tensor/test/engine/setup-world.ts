/** @file A world for set-up tests: a tiny wheel, a pip of our own, an empty cache, and processes that run the set-up in it. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

import { type SetupReport } from '../../src/setup/setup-engine.ts';
import { findDeepDamage } from '../../src/setup/stamp.ts';
import { bundleForNode } from './bundle.ts';
import { type DriverOrder } from './setup-driver.ts';
import { type TinyWheel, makeTinyWheel } from './tiny-wheel.ts';

/** How a driver process ended. */
export interface Outcome {
  readonly events: readonly string[];
  readonly ok: boolean;
  readonly message: string;
  readonly stage: string;
  readonly report: SetupReport | undefined;
  /** Everything it printed. */
  readonly output: string;
}

/** Parts of a driver's order that tests vary, and its process's environment. */
export type Variation = Partial<DriverOrder> & {
  readonly environment?: Readonly<Record<string, string>>;
};

/** One world. */
export interface SetupWorld {
  readonly folder: string;
  readonly cache: string;
  readonly tiny: TinyWheel;
  run(variation?: Variation): Promise<Outcome>;
  /** Runs until the driver pauses at an event, then kills it with SIGKILL. */
  killAt(event: string, variation?: Variation): Promise<void>;
  /** What is wrong with published folders; empty when each is whole. Staging does not count. */
  damage(): Promise<string[]>;
  /** Names in a folder of the cache's `engine`. */
  list(part: 'wheels' | 'libraries' | 'addons' | 'staging'): string[];
  /** Makes a lock left by a killed process look old, so that a test need not wait the two seconds. */
  ageLock(): void;
  emptyCache(): void;
  remove(): void;
}

/** Makes a world; call `remove` at the end. */
export async function createSetupWorld(): Promise<SetupWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'moebius-setup-'));
  chmodSync(folder, 0o755);
  const tiny = makeTinyWheel(folder);
  const driver = await bundleForNode('setup-driver');
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  // The last parameter of our pip call is the destination.
  writeFileSync(join(bin, 'python3'), '#!/bin/sh\nfor last; do :; done\ncp "$TINY_WHEEL" "$last/"\n', {
    mode: 0o755,
  });
  const cache = join(folder, 'cache');
  const engine = join(cache, 'engine');

  const start = (variation: Variation): ChildProcess => {
    const { environment, ...changes } = variation;
    const order: DriverOrder = { cacheFolder: cache, recipe: tiny.recipe, sources: tiny.sources, ...changes };
    const path = `${bin}${delimiter}${process.env['PATH'] ?? ''}`;
    return spawn(process.execPath, [driver, JSON.stringify(order)], {
      env: { ...process.env, NODE_OPTIONS: '', PATH: path, TINY_WHEEL: tiny.wheel, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  };
  const list: SetupWorld['list'] = (part) =>
    existsSync(join(engine, part)) ? readdirSync(join(engine, part)) : [];
  return {
    folder,
    cache,
    tiny,
    list,
    run: async (variation = {}) => readOutcome(await outputOf(start(variation))),
    killAt: async (event, variation = {}) => {
      const child = start({ ...variation, pauseAt: event });
      const output = await outputOf(child, (text) => text.includes('\npaused\n') && child.kill('SIGKILL'));
      if (!output.includes('\npaused\n')) throw new Error(`never came to "${event}":\n${output}`);
    },
    damage: async () => {
      const folders = (['libraries', 'addons'] as const).flatMap((part) =>
        list(part).map((name) => join(engine, part, name)),
      );
      const found = await Promise.all(folders.map((path) => findDeepDamage(path)));
      return found.filter((damage) => damage !== undefined);
    },
    ageLock: () => {
      const lock = join(engine, 'lock');
      if (existsSync(lock)) utimesSync(lock, 0, 0);
    },
    emptyCache: () => rmSync(cache, { recursive: true, force: true }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function outputOf(child: ChildProcess, look: (text: string) => unknown = () => {}): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = '';
    const keep = (chunk: Buffer): void => {
      output += chunk.toString('utf8');
      look(output);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    child.on('error', reject);
    child.on('close', () => resolve(output));
  });
}

function readOutcome(output: string): Outcome {
  const lines = output.split('\n');
  const events = lines.filter((line) => line.startsWith('event ')).map((line) => line.slice('event '.length));
  const last = lines.findLast((line) => line.startsWith('result '));
  if (last === undefined) throw new Error(`the driver gave no result:\n${output}`);
  const result = JSON.parse(last.slice('result '.length)) as Partial<Outcome>;
  return {
    events,
    ok: result.ok === true,
    message: result.message ?? '',
    stage: result.stage ?? '',
    report: result.report,
    output,
  };
}
