/** @file Starts the engine of a command, with one line about which it is. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

import { createEngine } from '@moebius/tensor';
import type { Engine, EngineOptions } from '@moebius/tensor';

import type { EngineFlags } from './engine-flags.ts';
import type { CommandContext } from './host.ts';

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
