/**
 * @file Tokenizers on disk: `tokenizer.json`, and beside it the `tokenizer_config.json` by which Python's
 * `AutoTokenizer` knows the class and the end-of-text token.
 */
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { MoebiusError } from '@moebius/core';

import { createTokenizer } from './tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';
import { parseTokenizerDefinition } from './tokenizer-definition.ts';

const largestFileBytes = 256 * 2 ** 20; // the largest public tokenizer.json is about 35 MB

/**
 * Reads a tokenizer.json, or the one in a model folder.
 *
 * @throws `io` when there is none, `format` when it is not one, `limit` when it is larger than 256 MiB
 */
export async function readTokenizer(path: string): Promise<Tokenizer> {
  const isFile = path.endsWith('.json');
  const file = isFile ? path : join(path, 'tokenizer.json');
  const definition = parseTokenizerDefinition(await readJson(file), file);
  const config = await readJson(join(dirname(file), 'tokenizer_config.json')).catch(() => ({}));
  const end = (config as { eos_token?: unknown }).eos_token;
  const endOfTextToken = typeof end === 'string' ? end : (end as { content?: unknown } | undefined)?.content;
  return createTokenizer(definition, typeof endOfTextToken === 'string' ? { endOfTextToken } : {});
}

/** Writes `tokenizer.json` and `tokenizer_config.json` into a folder, each whole or not at all. */
export async function writeTokenizer(tokenizer: Tokenizer, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [name, text] of Object.entries(tokenizerFiles(tokenizer)))
    await writeWhole(join(folder, name), text);
}

/** The files of a tokenizer, by name. */
export function tokenizerFiles(tokenizer: Tokenizer): { readonly [name: string]: string } {
  const endToken = tokenizer.decode([tokenizer.endOfTextId]);
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    eos_token: endToken,
    bos_token: endToken,
    pad_token: endToken,
    clean_up_tokenization_spaces: false,
    model_max_length: 1e30,
  };
  return {
    'tokenizer.json': `${JSON.stringify(tokenizer.definition, null, 1)}\n`,
    'tokenizer_config.json': `${JSON.stringify(config, null, 2)}\n`,
  };
}

/** On the disk before it has its name: what is cached must not be empty after a power failure. */
async function writeWhole(file: string, text: string): Promise<void> {
  const temporary = `${file}.partial`;
  await writeFile(temporary, text, { flush: true });
  await rename(temporary, file);
}

async function readJson(file: string): Promise<unknown> {
  const { size } = await stat(file).catch((cause: unknown) => {
    throw new MoebiusError({
      code: 'io',
      message: `tokenizer: expected a file at ${file}, got none (train one with trainTokenizer, or copy the model's tokenizer.json there)`,
      details: { file },
      cause,
    });
  });
  if (size > largestFileBytes) {
    throw new MoebiusError({
      code: 'limit',
      message: `${file}: must be at most ${largestFileBytes} bytes, got ${size} (is it a tokenizer?)`,
      details: { file, size, limit: largestFileBytes },
    });
  }
  try {
    return JSON.parse(await readFile(file, 'utf8')) as unknown;
  } catch (cause) {
    throw new MoebiusError({
      code: 'format',
      message: `${file}: must be JSON, got ${cause instanceof Error ? cause.message : 'something else'} (copy it again)`,
      details: { file },
      cause,
    });
  }
}
