/** @file Prompts from a file or from standard input: one a line, or one JSON object a line with a `prompt`. */
import { readFile } from 'node:fs/promises';
import { extname, resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';

import type { Host } from './host.ts';
import { readStandardInput, standardInput } from './measured-text.ts';

/**
 * Reads prompts. Empty lines are left out; in a `.jsonl` file (or on standard input, when its first line is a JSON
 * object) every line is an object with a string `prompt`, which may be empty and may hold line ends.
 *
 * @param path - a file, or `-`
 * @throws `io` when it cannot be read, `data` when it holds no prompt or a line that is none
 */
export async function readPrompts(path: string, host: Host): Promise<string[]> {
  const text = path === standardInput ? await readStandardInput(host) : await readFileText(path, host);
  const isJson =
    extname(path).toLowerCase() === '.jsonl' || (path === standardInput && text.trimStart().startsWith('{'));
  const prompts = text
    .split(/\r?\n/)
    .flatMap((line, index) =>
      line.trim() === '' ? [] : [isJson ? readObject(line, index + 1, path) : line],
    );
  if (prompts.length > 0) return prompts;
  throw new MoebiusError({
    code: 'data',
    message: `--prompts ${path}: must hold at least one prompt, got none (write one a line)`,
    details: { path },
  });
}

async function readFileText(path: string, { workingFolder }: Host): Promise<string> {
  try {
    return await readFile(resolve(workingFolder, path), 'utf8');
  } catch (cause) {
    const got = (cause as NodeJS.ErrnoException).code ?? 'an error';
    throw new MoebiusError({
      code: 'io',
      message: `--prompts: must be a readable file, or - for standard input, got ${got} for "${path}" (check the path)`,
      details: { path, got },
      cause,
    });
  }
}

function readObject(line: string, number: number, path: string): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  const prompt =
    typeof value === 'object' && value !== null ? (value as { prompt?: unknown }).prompt : undefined;
  if (typeof prompt === 'string') return prompt;
  throw new MoebiusError({
    code: 'data',
    message: `--prompts ${path}, line ${number}: must be a JSON object with a string "prompt", got ${line.slice(0, 60)} (for example {"prompt": "We"})`,
    details: { path, line: number },
  });
}
