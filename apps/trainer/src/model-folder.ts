/** @file Finds a model where people point: the folder of a model, or the folder of a run that made one. */
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import type { Plugin } from '@moebius/core';
import { loadModel, recoverModelFolder } from '@moebius/model';
import type { DecoderModel } from '@moebius/model';
import { loadPlugins, readTokenizer } from '@moebius/train';
import type { Tokenizer } from '@moebius/train';

import type { Host } from './host.ts';
import type { ModelFlags } from './model-flags.ts';

/** A model with its tokenizer. */
export interface LoadedModel {
  /** The folder with its config.json. */
  readonly folder: string;
  /** The model; dispose it. */
  readonly model: DecoderModel;
  /** Its tokenizer. */
  readonly tokenizer: Tokenizer;
}

/**
 * The folder that holds config.json: the one given, or `model` inside it.
 *
 * @throws `io` when neither does
 */
export async function findModelFolder(path: string, workingFolder: string): Promise<string> {
  const given = resolve(workingFolder, path);
  for (const folder of [given, join(given, 'model')]) {
    recoverModelFolder(folder);
    if (await isThere(join(folder, 'config.json'))) return folder;
  }
  const got = (await isThere(given)) ? 'a folder without one' : 'nothing';
  throw new MoebiusError({
    code: 'io',
    message: `${path}: must be a folder with config.json, or a finished run, got ${got} (train one: moebius train --out ${path})`,
    details: { path },
  });
}

/**
 * Loads a model and its tokenizer. Code runs only when `--plugin` names it, never because a folder does.
 *
 * @param flags - a tokenizer.json or its folder (default the model's folder); modules with the parts that the model names
 */
export async function openModel(
  path: string,
  flags: ModelFlags,
  host: Pick<Host, 'workingFolder'>,
): Promise<LoadedModel> {
  const { tokenizer: tokenizerPath } = flags;
  const { workingFolder } = host;
  const folder = await findModelFolder(path, workingFolder);
  const plugins = await loadNamed(flags, host);
  const tokenizer = await readTokenizer(
    tokenizerPath === undefined ? folder : resolve(workingFolder, tokenizerPath),
  );
  return { folder, tokenizer, model: await loadModel(folder, { plugins }) };
}

/** Plug-ins of `--plugin`. */
export async function loadNamed(
  { plugin = [] }: ModelFlags,
  { workingFolder }: Pick<Host, 'workingFolder'>,
): Promise<readonly Plugin[]> {
  const loaded = await loadPlugins(plugin, { from: workingFolder });
  return loaded.map((one) => one.plugin);
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
