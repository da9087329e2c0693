/**
 * @file Where text comes from: a corpus by name, or the user's own folder, file or glob.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, relative, resolve, sep } from 'node:path';

import { MoebiusError, isMoebiusError, nearest } from '@moebius/core';
import { glob, isDynamicPattern } from 'tinyglobby';

import { corpora } from './corpora.ts';
import type { CorpusName } from './corpora.ts';
import { readDocuments, textExtensions } from './documents.ts';
import type { TextDocument } from './documents.ts';
import { ensureNpmFiles } from './npm-tarball.ts';
import type { TarballDownload } from './npm-tarball.ts';

/** A corpus by name, or a path: folder, `.txt` or `.jsonl` file, or glob. */
export type TextSource =
  | {
      /** A text that comes with Moebius, by name. */
      readonly corpus: CorpusName;
    }
  | {
      /** A folder, a .txt or .jsonl file, or a glob. */
      readonly path: string;
      /** Field of .jsonl lines that holds the text. Default `text`. */
      readonly field?: string | undefined;
    };

/** What reading needs from outside. */
export interface TextSourceOptions {
  /** Per-user cache, for corpora. */
  readonly cacheFolder: string;
  /** How a corpus is fetched. Default `npm pack`. */
  readonly download?: TarballDownload;
  /** Told of each file that cannot be used, which is then left out. Default: the first one is thrown. */
  readonly onUnusable?: (error: MoebiusError) => void;
}

/**
 * The documents of a source, sorted by name.
 *
 * @throws `io` when nothing is there (names what is near), `data` when what is there is not text
 */
export async function readTextSource(
  source: TextSource,
  options: TextSourceOptions,
): Promise<TextDocument[]> {
  const { onUnusable } = options;
  if ('corpus' in source) {
    const { files } = corpora[source.corpus];
    return readFiles(await ensureNpmFiles(files, options.cacheFolder, options.download), { onUnusable });
  }
  return readFiles(source.path, { field: source.field, onUnusable });
}

interface ReadingOptions {
  readonly field?: string | undefined;
  readonly onUnusable?: TextSourceOptions['onUnusable'] | undefined;
}

async function readFiles(path: string, { field, onUnusable }: ReadingOptions): Promise<TextDocument[]> {
  const { files, root } = await findTextFiles(path);
  const documents: TextDocument[] = [];
  for (const file of files) {
    const name = relative(root, file).split(sep).join('/');
    try {
      documents.push(...(await readDocuments(file, field === undefined ? { name } : { name, field })));
    } catch (error) {
      if (onUnusable === undefined || !isMoebiusError(error)) throw error;
      onUnusable(error);
    }
  }
  return documents;
}

/** Files of a path, and what their names are relative to. */
export interface FoundFiles {
  /** Absolute, sorted. */
  readonly files: readonly string[];
  /** Names of documents are relative to it, so that they do not depend on where the data lie. */
  readonly root: string;
}

/**
 * The text files of a folder, file or glob. Reads none of them.
 *
 * @throws `io` when there is none (names what is near)
 */
export async function findTextFiles(path: string): Promise<FoundFiles> {
  const kind = await stat(path).catch(() => undefined);
  if (kind?.isFile() === true) return { files: [resolve(path)], root: dirname(resolve(path)) };
  const isFolder = kind?.isDirectory() === true;
  if (!isFolder && !isDynamicPattern(path)) throw await missing(path);
  const root = isFolder ? resolve(path) : resolve('.');
  const patterns = isFolder
    ? textExtensions.map((extension) => `**/*${extension}`)
    : [path.split(sep).join('/')];
  const found = await glob(patterns, {
    cwd: root,
    absolute: true,
    onlyFiles: true,
    expandDirectories: false,
  });
  const files = found
    .filter((file) => !isFolder || textExtensions.includes(extname(file).toLowerCase()))
    .toSorted();
  if (files.length > 0) return { files, root };
  const others = isFolder ? (await readdir(path)).length : 0;
  throw new MoebiusError({
    code: 'io',
    message: isFolder
      ? `${path}: must hold ${textExtensions.join(' or ')} files, got ${others} other entries (add text files, or name a glob such as "${join(path, '**/*.md')}")`
      : `${path}: must match files, got none from ${root} (quote the pattern so that the shell does not expand it)`,
    details: { path, root, others },
  });
}

async function missing(path: string): Promise<MoebiusError> {
  const siblings = await readdir(dirname(path)).catch(() => []);
  const near = nearest(basename(path), siblings);
  const remedy =
    near === undefined
      ? `"${dirname(path)}" has no such name`
      : `did you mean "${join(dirname(path), near)}"?`;
  return new MoebiusError({
    code: 'io',
    message: `data: expected a folder, file or glob, got "${path}", which does not exist (${remedy})`,
    details: { path, near: near === undefined ? null : join(dirname(path), near) },
  });
}
