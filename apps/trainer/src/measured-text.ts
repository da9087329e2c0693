/** @file Which text a model is measured on: the user's own, what its run held out, or the default text's held-out part. */
import { dirname, resolve } from 'node:path';
import { buffer } from 'node:stream/consumers';

import { MoebiusError } from '@moebius/core';
import { readTextSource, splitDocuments } from '@moebius/train';
import type { TextDocument } from '@moebius/train';

import type { Host } from './host.ts';
import { findModelFolder } from './model-folder.ts';
import { readRunFile } from './run-file.ts';
import { cacheFolderOf } from './start-engine.ts';
import { textSourceOf } from './text-flags.ts';

/** What stands for standard input. */
export const standardInput = '-';

/** Text to measure on. */
export interface MeasuredText {
  /** The documents. */
  readonly heldOut: readonly TextDocument[];
  /** What the run was trained on, when the folder knows it. */
  readonly training: readonly TextDocument[] | undefined;
  /** Tokens of a window, as trained. */
  readonly length: number;
}

/** Flags that name a text. */
export interface TextFlags {
  readonly data?: string | undefined;
  readonly field?: string | undefined;
}

/** The documents of a source on the command line; `-` reads standard input as one document. */
export async function readNamedText(
  { data, field }: TextFlags & { readonly data: string },
  host: Host,
): Promise<TextDocument[]> {
  if (data === standardInput) return [{ name: 'standard input', text: await readStandardInput(host) }];
  const source = textSourceOf(data, { field, workingFolder: resolve(host.workingFolder) });
  return readTextSource(source, { cacheFolder: cacheFolderOf(host.env) });
}

/** Text of the user's own, or what the run of a model's folder held out. */
export async function findMeasuredText(model: string, flags: TextFlags, host: Host): Promise<MeasuredText> {
  const folder = await findModelFolder(model, host.workingFolder);
  const run = (await readRunFile(folder)) ?? (await readRunFile(dirname(folder)));
  const length = run?.batch.length ?? 256;
  const { data: named, field } = flags;
  if (named !== undefined) {
    return { heldOut: await readNamedText({ data: named, field }, host), training: undefined, length };
  }
  const options = { cacheFolder: cacheFolderOf(host.env) };
  const data = run?.data ?? { training: { corpus: 'sotu' as const }, heldOutFraction: 0.1, splitSeed: 0 };
  const documents = await readTextSource(data.training, options);
  if ('heldOut' in data && data.heldOut !== undefined) {
    return { heldOut: await readTextSource(data.heldOut, options), training: documents, length };
  }
  const split = splitDocuments(documents, { heldOutFraction: data.heldOutFraction, seed: data.splitSeed });
  return { ...split, length };
}

/**
 * Everything on standard input.
 *
 * @throws `data` when it is empty, binary or not UTF-8
 */
export async function readStandardInput({ stdin }: Pick<Host, 'stdin'>): Promise<string> {
  const bytes = await buffer(stdin);
  const fault = (got: string, remedy: string): MoebiusError =>
    new MoebiusError({
      code: 'data',
      message: `standard input: must be UTF-8 text, got ${got} (${remedy})`,
      details: { bytes: bytes.length },
    });
  if (bytes.includes(0)) throw fault('a byte 0', 'is it a binary file?');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw fault('bytes that are not UTF-8', 'convert other encodings with "iconv -t utf-8"');
  }
  if (text.trim() === '') throw fault('nothing', 'pipe a text into the command');
  return text;
}
