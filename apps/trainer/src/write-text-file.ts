/** @file Writes a file that a flag names; a fault names the flag. */
import { writeFile } from 'node:fs/promises';

import { MoebiusError } from '@moebius/core';

/**
 * Writes a text file.
 *
 * @param flag - which flag named the file
 * @throws `io` when it cannot be written
 */
export async function writeTextFile(file: string, text: string, flag: string): Promise<void> {
  try {
    await writeFile(file, text);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'an error';
    throw new MoebiusError({
      code: 'io',
      message: `${flag}: must be a file that can be written, got ${code} for ${file} (make its folder, or name another)`,
      details: { file, got: code },
      cause,
    });
  }
}
