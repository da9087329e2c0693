/** @file Starts the engine of a command, with one line about which it is. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

import { createEngine, currentEngine } from '@moebius/tensor';
import type { Engine, EngineName, EngineOptions } from '@moebius/tensor';
import { findMatmulRate } from '@moebius/train';

import type { EngineFlags } from './engine-flags.ts';
import type { CommandContext, Host } from './host.ts';

/** Starts the engine and says which it is, and why when it is not the fast one. */
export async function startEngine(flags: EngineFlags, { host, terminal }: CommandContext): Promise<Engine> {
  const engine = await createEngine(engineOptions(flags, host));
  terminal.json({ event: 'engine', name: engine.name, threads: engine.threads, versions: engine.versions });
  terminal.note(`engine     ${engine.description}`);
  return engine;
}

/** Which engine {@link startEngine} would start, without a word. */
export async function findEngineName(flags: EngineFlags, { host }: CommandContext): Promise<EngineName> {
  return (await createEngine(engineOptions(flags, host))).name;
}

/**
 * The matmul rate of the engine that runs: measured for a third of a second where the cache does not know it.
 *
 * @param options - `anew`: measure in any case, and keep the higher rate
 */
export async function findRate(
  { host }: CommandContext,
  options: { readonly anew?: boolean } = {},
): Promise<number | undefined> {
  const engine = await currentEngine();
  if (engine === undefined) return undefined;
  const clock = { nowMs: (): number => host.nowMs() };
  return findMatmulRate({ engine, cacheFolder: cacheFolderOf(host.env), clock, ...options });
}

function engineOptions(flags: EngineFlags, host: Host): EngineOptions {
  return {
    engine: flags.engine ?? 'auto',
    threads: flags.threads,
    cacheFolder: cacheFolderOf(host.env),
    resolveFrom: [host.workingFolder],
  };
}

/** The per-user cache: MOEBIUS_CACHE, else `moebius` in XDG_CACHE_HOME or `~/.cache`. */
export function cacheFolderOf(env: { readonly [name: string]: string | undefined }): string {
  const own = env['MOEBIUS_CACHE'];
  if (own !== undefined && own !== '') return resolve(own);
  const base = env['XDG_CACHE_HOME'];
  return join(base === undefined || base === '' ? join(homedir(), '.cache') : base, 'moebius');
}
