/**
 * @file Documents: the unit in which text is read, split and evaluated. A `.txt` file is one document; each line of
 * a `.jsonl` file is one, its text in a named field.
 */
import { readFile, stat } from 'node:fs/promises';
import { basename, extname } from 'node:path';

import { MoebiusError } from '@moebius/core';

/** One text and its name. */
export interface TextDocument {
  /** Unique in its source: the path below the source's folder, with `#line` for a line of a `.jsonl` file. */
  readonly name: string;
  /** Its text, without byte-order mark. */
  readonly text: string;
}

/** How a file becomes documents. */
export interface DocumentOptions {
  /** Field of a `.jsonl` line that holds the text. Default `text`. */
  readonly field?: string;
  /** Name under which the documents appear. Default the file's own. */
  readonly name?: string;
}

/** File name endings that are read. */
export const textExtensions: readonly string[] = ['.txt', '.jsonl'];

const largestFileBytes = 2 ** 28; // a JavaScript string holds at most 2^29 characters

/**
 * The documents of one file, empty ones left out.
 *
 * @throws `data` when it is empty, binary or badly formed, `limit` when it is larger than 256 MiB, `io` when it cannot be read
 */
export async function readDocuments(file: string, options: DocumentOptions = {}): Promise<TextDocument[]> {
  const { field = 'text', name = basename(file) } = options;
  const text = await readText(file);
  const documents =
    extname(file).toLowerCase() === '.jsonl'
      ? readLines(text, { file, field, name })
      : [{ name, text }].filter((document) => document.text.trim() !== '');
  if (documents.length > 0) return documents;
  throw new MoebiusError({
    code: 'data',
    message: `${file}: must contain text, got ${text.length === 0 ? 'an empty file' : 'only white space'} (remove it, or fill it)`,
    details: { file, characters: text.length },
  });
}

async function readText(file: string): Promise<string> {
  const bytes = await readBytes(file);
  const invalid = bytes.indexOf(0);
  if (invalid >= 0) throw binary(file, `byte 0 at position ${invalid}`, invalid);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw binary(file, 'bytes that are not UTF-8', -1);
  }
}

function binary(file: string, found: string, position: number): MoebiusError {
  return new MoebiusError({
    code: 'data',
    message: `${file}: must be UTF-8 text, got ${found} (is it a binary file? convert other encodings with "iconv -t utf-8")`,
    details: { file, position },
  });
}

async function readBytes(file: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(file);
    if (size <= largestFileBytes) return await readFile(file);
    throw new MoebiusError({
      code: 'limit',
      message: `${file}: must be at most ${largestFileBytes} bytes, got ${size} (split it into several files)`,
      details: { file, size, limit: largestFileBytes },
    });
  } catch (cause) {
    if (cause instanceof MoebiusError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MoebiusError({
      code: 'io',
      message: `${file}: expected to read it, got ${reason} (check its permissions)`,
      details: { file, reason },
      cause,
    });
  }
}

interface LinesSource {
  readonly file: string;
  readonly field: string;
  readonly name: string;
}

function readLines(text: string, source: LinesSource): TextDocument[] {
  const documents: TextDocument[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const value = readField(line, index + 1, source);
    if (value.trim() !== '') documents.push({ name: `${source.name}#${index + 1}`, text: value });
  }
  return documents;
}

function readField(line: string, number: number, { file, field }: LinesSource): string {
  const fault = (got: string, remedy: string): MoebiusError =>
    new MoebiusError({
      code: 'data',
      message: `${file}, line ${number}: must be a JSON object with a string "${field}", got ${got} (${remedy})`,
      details: { file, line: number, field },
    });
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw fault(cause instanceof Error ? cause.message : 'no JSON', 'write one JSON object a line');
  }
  if (typeof value !== 'object' || value === null)
    throw fault(JSON.stringify(value), 'write one JSON object a line');
  const content = (value as Record<string, unknown>)[field];
  if (typeof content === 'string') return content;
  const fields = Object.keys(value).slice(0, 8).join(', ');
  throw fault(
    content === undefined ? `only the fields ${fields}` : typeof content,
    'name the field that holds the text',
  );
}
