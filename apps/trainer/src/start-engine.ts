/** @file The engine of a command: its flags, and starting it with one line about which it is. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

import { createEngine } from '@moebius/tensor';
import type { Engine, EngineOptions } from '@moebius/tensor';
import { InvalidArgumentError } from 'commander';
import type { Command } from 'commander';

import { wholeNumber } from './flags.ts';
import type { CommandContext } from './host.ts';

/** Engine flags. */
export interface EngineFlags {
  /** Engine. */
  readonly engine?: EngineName | 'auto';
  /** Threads inside one operation. */
  readonly threads?: number;
}

type EngineName = Engine['name'];

const names = ['auto', 'native', 'wasm', 'cpu'] as const;

/** Adds `--engine` and `--threads`. */
export function addEngineFlags(command: Command): Command {
  return command
    .option('--engine <name>', 'auto, native, wasm or cpu (slow)', parseEngine)
    .option('--threads <count>', 'threads inside one operation (native; default: all cores)', wholeNumber(1));
}

function parseEngine(text: string): EngineName | 'auto' {
  const name = names.find((known) => known === text);
  if (name !== undefined) return name;
  throw new InvalidArgumentError(`Must be one of ${names.join(', ')}.`);
}

/** Starts the engine and says which it is, and why when it is not the fast one. */
export async function startEngine(flags: EngineFlags, { host, terminal }: CommandContext): Promise<Engine> {
  const options: EngineOptions = {
    engine: flags.engine ?? 'auto',
    threads: flags.threads,
    cacheFolder: cacheFolderOf(host.env),
    resolveFrom: [host.workingFolder],
  };
  const engine = await createEngine(options);
  terminal.json({ event: 'engine', name: engine.name, threads: engine.threads, versions: engine.versions });
  terminal.note(`engine     ${engine.description}`);
  return engine;
}

/** The per-user cache: MOEBIUS_CACHE, else `moebius` in XDG_CACHE_HOME or `~/.cache`. */
export function cacheFolderOf(env: { readonly [name: string]: string | undefined }): string {
  const own = env['MOEBIUS_CACHE'];
  if (own !== undefined && own !== '') return resolve(own);
  const base = env['XDG_CACHE_HOME'];
  return join(base === undefined || base === '' ? join(homedir(), '.cache') : base, 'moebius');
}
