/** @file Finds a model where people point: the folder of a model, or the folder of a run that made one. */
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import { loadModel, recoverModelFolder } from '@moebius/model';
import type { DecoderModel } from '@moebius/model';
import { readTokenizer } from '@moebius/train';
import type { Tokenizer } from '@moebius/train';

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
 * Loads a model and its tokenizer.
 *
 * @param tokenizerPath - a tokenizer.json or its folder; default the model's folder
 */
export async function openModel(
  path: string,
  options: { readonly workingFolder: string; readonly tokenizerPath?: string | undefined },
): Promise<LoadedModel> {
  const { workingFolder, tokenizerPath } = options;
  const folder = await findModelFolder(path, workingFolder);
  const tokenizer = await readTokenizer(
    tokenizerPath === undefined ? folder : resolve(workingFolder, tokenizerPath),
  );
  return { folder, tokenizer, model: await loadModel(folder) };
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
