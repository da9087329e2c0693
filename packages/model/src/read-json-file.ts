/** @file Reads the small JSON files of a model folder, which may be anything. */
import fs from 'node:fs';
import path from 'node:path';

import { isMoebiusError, MoebiusError } from '@moebius/core';

/** Hostile files: no configuration of a published model reaches a tenth of this. */
const mostBytes = 1_048_576;

/**
 * Reads a JSON file.
 *
 * @param file - path
 * @returns what it holds; undefined when there is no such file
 * @throws `limit` when it is too large; `format` when it is not JSON; `io` when it cannot be read
 */
export function readJsonFile(file: string): unknown {
  let text: string;
  try {
    const { size } = fs.statSync(file);
    if (size > mostBytes) throw tooLarge(file, size);
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (isMoebiusError(error)) throw error;
    throw new MoebiusError({
      code: 'io',
      message: `${path.dirname(file)}: must hold a readable ${path.basename(file)}, got ${String(code)} (give a model folder)`,
      details: { file, code: String(code) },
      cause: error,
    });
  }
  return parseJson(text, file);
}

function tooLarge(file: string, size: number): MoebiusError {
  return new MoebiusError({
    code: 'limit',
    message: `${file}: must have at most ${mostBytes} bytes, got ${size}`,
    details: { file, limit: mostBytes, got: size },
  });
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new MoebiusError({
      code: 'format',
      message: `${file}: must be JSON, got ${JSON.stringify(text.slice(0, 20))}… (is the download complete?)`,
      details: { file },
      cause: error,
    });
  }
}
