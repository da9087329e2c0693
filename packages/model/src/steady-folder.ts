/**
 * @file Reading several files of a model folder that another process may be replacing meanwhile: all of the old one, or
 * all of the new one.
 */
import fs from 'node:fs';
import path from 'node:path';

import { finishReplacement } from './replace-folder.ts';

/** Looks at a folder that changes; a replacement takes two renames, so more than a few looks are never needed. */
const mostLooks = 50;
const pauseMs = 20;

/**
 * Brings a model folder back whose replacement was interrupted by a kill. {@link loadModel} and `saveModel` do it by
 * themselves; call it before looking into a model folder by other means.
 *
 * @param folder - may be missing
 * @example
 * ```ts
 * recoverModelFolder('runs/demo/model');
 * ```
 */
export function recoverModelFolder(folder: string): void {
  const target = path.resolve(folder);
  try {
    for (let look = 1; !fs.existsSync(target); look += 1) {
      if (!finishReplacement(target, look >= mostLooks)) return;
      pause();
    }
  } catch {
    // Not ours to write: then what is there must do.
  }
}

/**
 * Opens the parts of a model so that they belong together.
 *
 * @param open - reads small files and opens the others; what it returned is closed when the folder changed meanwhile
 */
export function openUnchanged<R extends { close(): void }>(folder: string, open: () => R): R {
  for (let look = 1; ; look += 1) {
    recoverModelFolder(folder);
    const before = stampOf(folder);
    let opened: R | undefined;
    try {
      opened = open();
      if (look >= mostLooks || stampOf(folder) === before) return opened;
    } catch (error) {
      if (look >= mostLooks || stampOf(folder) === before) throw error;
    }
    opened?.close();
    pause();
  }
}

/** Changes when the folder, or one of the files that a replacement writes last, is another one. */
function stampOf(folder: string): string {
  return ['.', 'config.json', 'generation_config.json', 'model.safetensors', 'model.safetensors.index.json']
    .map((name) => {
      const status = fs.statSync(path.join(folder, name), { throwIfNoEntry: false });
      return status === undefined ? '-' : `${status.ino}:${name === '.' ? '' : status.mtimeMs}`;
    })
    .join(' ');
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
}
