/** @file `run.json` in a run's folder: its whole configuration, so that it can be resumed and measured as it was made. */
import { mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import { lockRun, parseTrainConfig, runLockName } from '@moebius/train';
import type { TrainConfig } from '@moebius/train';

/** Name of the file. */
export const runFileName = 'run.json';

/** Writes the configuration of a run into its folder, whole or not at all. */
export async function writeRunFile(config: TrainConfig, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const file = join(folder, runFileName);
  await writeFile(`${file}.partial`, `${JSON.stringify(config, null, 2)}\n`);
  await rename(`${file}.partial`, file);
}

/**
 * Reads the configuration of a run; its output is the folder it was read from, wherever that was moved.
 *
 * @returns undefined when the folder has none
 * @throws `format` when it is not JSON, `configuration` when it is no run configuration
 */
export async function readRunFile(folder: string): Promise<TrainConfig | undefined> {
  const file = join(folder, runFileName);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch {
    return undefined;
  }
  try {
    return { ...parseTrainConfig(JSON.parse(text), file), output: folder };
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    const message = `${file}: must be JSON, got ${cause.message} (restore it, or start a new run)`;
    throw new MoebiusError({ code: 'format', message, details: { file }, cause });
  }
}

/**
 * Reads the configuration of a run that must be there.
 *
 * @throws `io` when the folder has none
 */
export async function requireRunFile(path: string, workingFolder: string): Promise<TrainConfig> {
  const folder = resolve(workingFolder, path);
  const config = await readRunFile(folder);
  if (config !== undefined) return config;
  throw new MoebiusError({
    code: 'io',
    message: `--resume ${path}: must be the folder of a run, got one without ${runFileName} (runs are in: ${await nameRuns(dirname(folder))})`,
    details: { folder },
  });
}

/** What stands beside a folder that was not there, for messages. */
export async function nameRuns(parent: string): Promise<string> {
  const names = await readdir(parent).catch(() => []);
  return names.length === 0
    ? `nothing in ${parent}`
    : names
        .map((name) => join(basename(parent), name))
        .slice(0, 8)
        .join(', ');
}

/**
 * The first of `folder`, `folder-2`, `folder-3`, … that does not exist or is empty. One with nothing but the lock of
 * a process that died is empty.
 */
export async function freshFolder(folder: string): Promise<string> {
  for (let number = 1; ; number += 1) {
    const candidate = number === 1 ? folder : `${folder}-${number}`;
    const entries = await readdir(candidate).catch(() => []);
    if (entries.length === 0) return candidate;
    if (entries.every((name) => name === runLockName) && isFree(candidate)) return candidate;
  }
}

function isFree(folder: string): boolean {
  try {
    lockRun(folder, { command: 'looking for a free folder' }).release();
    return true;
  } catch {
    return false;
  }
}
