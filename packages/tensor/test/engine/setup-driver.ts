/**
 * @file Runs the set-up once in a process of its own, with faults injected through the ports. Bundled by the tests.
 *
 * Prints one line per event (`event download`, `event open stamp.json`, …) and at last `result {json}`.
 */
import { writeSync } from 'node:fs';
import { basename, join } from 'node:path';

import { isMoebiusError } from '@moebius/core';

import { type FileWriter, type SetupPorts, createSetupPorts } from '../../src/setup/ports.ts';
import { type LibraryRecipe } from '../../src/setup/recipe.ts';
import { setupEngine } from '../../src/setup/setup-engine.ts';
import { type AddonSources, collectSources, hashFiles } from '../../src/setup/sources.ts';

/** What a run is told, as JSON in the first parameter. */
export interface DriverOrder {
  readonly cacheFolder: string;
  readonly recipe: LibraryRecipe;
  /** Folder with `binding.cc` and `kernel.cc`. */
  readonly sources: string;
  /** Event at which the process stops and waits to be killed. */
  readonly pauseAt?: string;
  /** Commands that "are not installed". */
  readonly deny?: readonly string[];
  /** The disk is full after this many bytes of files whose name this is. */
  readonly full?: { readonly file: string; readonly afterBytes: number };
  readonly wheel?: string;
  readonly verify?: boolean;
  readonly patienceMs?: number;
  /** Becomes this user, once its modules are loaded: the clone may be readable by root alone. */
  readonly uid?: number;
}

const order = JSON.parse(process.argv[2] ?? '{}') as DriverOrder;
const counts = new Map<string, number>();

function say(line: string): void {
  writeSync(1, `${line}\n`);
}

async function event(name: string): Promise<void> {
  const count = (counts.get(name) ?? 0) + 1;
  counts.set(name, count);
  const numbered = count === 1 ? name : `${name} #${count}`;
  say(`event ${numbered}`);
  if (order.pauseAt !== numbered) return;
  say('paused');
  setInterval(() => {}, 1_000);
  await new Promise(() => {});
}

function nameOf(command: string, parameters: readonly string[]): string {
  if (command === process.execPath) return 'smoke';
  if (parameters.includes('download')) return 'download';
  if (parameters.includes('--version')) return `look for ${command}`;
  const source = parameters.find((parameter) => parameter.endsWith('.cc'));
  return source === undefined ? 'link' : `compile ${basename(source)}`;
}

function createFaultyPorts(): SetupPorts {
  const real = createSetupPorts((line) => say(`report ${line}`));
  return {
    ...real,
    run: async (command, parameters, options) => {
      await event(nameOf(command, parameters));
      if (order.deny?.includes(command) === true) return { status: null, output: '', failure: 'ENOENT' };
      return real.run(command, parameters, options);
    },
    openWriter: async (path) => {
      await event(`open ${basename(path)}`);
      return faultyWriter(basename(path), await real.openWriter(path));
    },
  };
}

function faultyWriter(name: string, writer: FileWriter): FileWriter {
  let written = 0;
  return {
    write: async (bytes) => {
      written += bytes.length;
      if (order.full?.file === name && written > order.full.afterBytes) {
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
      }
      await writer.write(bytes);
      await event(`wrote ${name}`);
    },
    finish: async () => {
      await writer.finish();
      await event(`finished ${name}`);
    },
    abandon: () => writer.abandon(),
  };
}

function tinySources(): AddonSources {
  const real = collectSources();
  const binding = [join(order.sources, 'binding.cc')];
  const kernels = [join(order.sources, 'kernel.cc')];
  const hashed = [...binding, ...kernels, real.loader];
  return { ...real, binding, kernels, hashed, hash: hashFiles(hashed) };
}

const sources = tinySources();
if (order.uid !== undefined) {
  process.setgid?.(order.uid);
  process.setuid?.(order.uid);
}
try {
  const report = await setupEngine({
    cacheFolder: order.cacheFolder,
    recipe: order.recipe,
    sources,
    ports: createFaultyPorts(),
    wheel: order.wheel,
    verify: order.verify,
    patienceMs: order.patienceMs,
  });
  say(`result ${JSON.stringify({ ok: true, report })}`);
} catch (error) {
  const known = isMoebiusError(error, 'engine');
  const message = error instanceof Error ? error.message : String(error);
  say(`result ${JSON.stringify({ ok: false, known, message, stage: known ? error.details['stage'] : '' })}`);
}
