/**
 * @file Appending lines to a file that may have no room: a run does not end because its metrics cannot be written.
 */
import { appendFile, stat, truncate } from 'node:fs/promises';

import { noRoomCode } from '../files/disk-space.ts';

/** Adds whole lines to a file. */
export interface LineWriter {
  /** Adds a line, after those that had no room before. */
  write(line: string): Promise<void>;
  /** Lines that still wait for room. */
  readonly waiting: number;
}

/**
 * Makes a writer of lines.
 *
 * @param file - must exist
 */
export async function createLineWriter(file: string): Promise<LineWriter> {
  let { size } = await stat(file);
  let waiting: string[] = [];
  return {
    async write(line) {
      waiting.push(`${line}\n`);
      const text = waiting.join('');
      try {
        await appendFile(file, text);
      } catch (error) {
        if (noRoomCode(error) === undefined) throw error;
        // What was written of it would be half a line in the middle.
        await truncate(file, size);
        return;
      }
      size += Buffer.byteLength(text);
      waiting = [];
    },
    get waiting() {
      return waiting.length;
    },
  };
}
