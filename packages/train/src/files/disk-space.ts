/**
 * @file Saying what a full disk means: how much was to be written, how much there is, what to do.
 */
import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';

import { MoebiusError } from '@moebius/core';

/** Codes of "there is no room", and what a person can do. */
const remedies: ReadonlyMap<string, string> = new Map([
  ['ENOSPC', 'free some space'],
  ['EDQUOT', 'free some of your quota'],
  ['EFBIG', 'raise the limit on the size of a file, see ulimit -f'],
]);

/** What is said of a save that had no room. */
export interface NoRoom {
  /** System code: ENOSPC, EDQUOT or EFBIG. */
  readonly code: string;
  /** Bytes that the save needs. */
  readonly neededBytes: number;
  /** Bytes that the file system has for us; undefined when it does not say. */
  readonly availableBytes: number | undefined;
}

/** The system code of an error that says there is no room, or undefined when it says something else. */
export function noRoomCode(error: unknown): string | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    const { code } = at as { code?: unknown };
    if (typeof code === 'string' && remedies.has(code)) return code;
  }
  return undefined;
}

/** What a save of this size into this folder lacks. */
export function describeRoom(
  folder: string,
  fields: { readonly code: string; readonly neededBytes: number },
): NoRoom {
  return { ...fields, availableBytes: availableBytes(folder) };
}

/**
 * The error of a save that had no room.
 *
 * @param subject - what was saved
 * @param fate - what still stands, for example where the last checkpoint is
 */
export function noRoomError(
  { subject, folder, fate }: { readonly subject: string; readonly folder: string; readonly fate: string },
  room: NoRoom,
  cause: unknown,
): MoebiusError {
  const { code, neededBytes, availableBytes: free } = room;
  const space = free === undefined ? '' : `, ${formatBytes(free)} free`;
  return new MoebiusError({
    code: 'io',
    message: `${subject}: must be saved in ${folder}, got ${code}: ${formatBytes(neededBytes)} needed${space} (${remedies.get(code) ?? 'make room'}; ${fate})`,
    details: { folder, code, neededBytes, availableBytes: free ?? null },
    cause,
  });
}

/** Of the file system that a folder is on, or would be on once it is made. */
function availableBytes(folder: string): number | undefined {
  for (let at = folder; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = statfsSync(at);
      return bavail * bsize;
    } catch {
      if (dirname(at) === at) return undefined;
    }
  }
}

function formatBytes(bytes: number): string {
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** power;
  return `${power > 0 && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}
