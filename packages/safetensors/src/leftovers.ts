/**
 * @file Removing what writers that were killed left behind: temporary files that nobody will rename any more.
 */
import fs from 'node:fs';
import path from 'node:path';

import { attempt, errorCode } from './file-system.ts';

/** Names that {@link createPendingFile} gives while a file is on its way. */
const temporaryName = /^\..+\.safetensors(\.index\.json)?\.\d+\.tmp$/;

/**
 * Removes the temporary files of writers that were killed. Call it only where no writer is at work.
 *
 * @param folder - on this machine's file system; one that is not there has nothing to remove
 * @returns names of the files that were removed, sorted
 * @throws `io` when a file cannot be removed
 * @example
 * ```ts
 * removeLeftovers('runs/demo/checkpoint');
 * ```
 */
export function removeLeftovers(folder: string): readonly string[] {
  let names: readonly string[];
  try {
    names = fs.readdirSync(folder);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    return attempt(folder, 'be readable', () => {
      throw error;
    });
  }
  const left = names.filter((name) => temporaryName.test(name)).toSorted();
  for (const name of left)
    attempt(path.join(folder, name), 'be removable', () =>
      fs.rmSync(path.join(folder, name), { force: true }),
    );
  return left;
}
