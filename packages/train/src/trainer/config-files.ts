/** @file Whether what a run configuration names on disk is there, before anything is read. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';

import { isMoebiusError } from '@moebius/core';
import type { Fault } from '@moebius/core';

import { findTextFiles } from '../data/text-source.ts';
import type { TextSource } from '../data/text-source.ts';
import type { TrainConfig } from './train-config.ts';

/**
 * Looks for the text, tokenizer and model that a configuration names by path. Reads no file.
 *
 * @returns one fault per thing that is not there; empty when all is
 */
export async function findMissingFiles(config: TrainConfig): Promise<Fault[]> {
  const { data, tokenizer, model, initFrom } = config;
  const found = await Promise.all([
    textFault('data.training.path', data.training),
    data.heldOut === undefined ? undefined : textFault('data.heldOut.path', data.heldOut),
    data.replay === undefined ? undefined : textFault('data.replay.source.path', data.replay.source),
    'path' in tokenizer
      ? fileFault('tokenizer.path', tokenizer.path, { file: 'tokenizer.json', what: 'tokenizer.json' })
      : undefined,
    initFrom === null
      ? undefined
      : fileFault('initFrom', initFrom, { file: 'config.json', what: 'config.json' }),
    typeof model === 'string' && model !== initFrom
      ? fileFault('model', model, { file: 'config.json', what: 'config.json' })
      : undefined,
  ]);
  return found.filter((fault) => fault !== undefined);
}

async function textFault(path: string, source: TextSource): Promise<Fault | undefined> {
  if ('corpus' in source) return undefined;
  try {
    await findTextFiles(source.path);
    return undefined;
  } catch (error) {
    if (!isMoebiusError(error, 'io')) throw error;
    const { near = null } = error.details as { near?: string | null };
    const fault = { path, expectation: 'must lead to text files', got: JSON.stringify(source.path) };
    return near === null ? fault : { ...fault, remedy: `did you mean "${near}"?` };
  }
}

/** A file of its own, or a folder with the file in it. */
async function fileFault(
  path: string,
  given: string,
  { file, what }: { readonly file: string; readonly what: string },
): Promise<Fault | undefined> {
  for (const candidate of given.endsWith('.json') ? [given] : [join(given, file)]) {
    const kind = await stat(candidate).catch(() => undefined);
    if (kind?.isFile() === true) return undefined;
  }
  return { path, expectation: `must be a ${what}, or a folder with one`, got: JSON.stringify(given) };
}
