/** @file Text on the command line: a corpus by its name, or a folder, file or glob of the user's own. */
import { resolve } from 'node:path';

import { corpusNames } from '@moebius/train';
import type { TextSource } from '@moebius/train';

/**
 * A corpus when the text is its name (`./sotu` is a path in any case), else a path.
 *
 * @param text - what was written
 * @param options - `field` of `.jsonl` lines; `workingFolder`: where relative paths start
 */
export function textSourceOf(
  text: string,
  options: { readonly field?: string | undefined; readonly workingFolder: string },
): TextSource {
  const { field, workingFolder } = options;
  const corpus = corpusNames.find((name) => name === text);
  if (corpus !== undefined) return { corpus };
  const path = resolve(workingFolder, text);
  return field === undefined ? { path } : { path, field };
}
