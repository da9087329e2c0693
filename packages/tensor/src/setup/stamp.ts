/**
 * @file Stamps: the last file written into a folder before it is published, naming every file's size and hash.
 *
 * A folder without a readable stamp, or whose files differ from it, does not count as present.
 */
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** One file under a stamp. */
export interface StampedFile {
  readonly bytes: number;
  /** Lower-case hex; absent for headers, whose sizes are checked. */
  readonly sha256?: string;
}

/** Contents of `stamp.json`. */
export interface Stamp {
  readonly schemaVersion: 1;
  /** Path inside the folder, with `/`. */
  readonly files: Readonly<Record<string, StampedFile>>;
  /** What made it, for people. */
  readonly made: Readonly<Record<string, string | number | boolean | null>>;
}

/** The stamp's file name. */
export const stampFile = 'stamp.json';

/**
 * Reads a folder's stamp.
 *
 * @param folder - a library or addon folder
 * @returns the stamp, or undefined when there is none or it is damaged
 */
export function readStamp(folder: string): Stamp | undefined {
  try {
    const value = JSON.parse(readFileSync(join(folder, stampFile), 'utf8')) as Partial<Stamp> | null;
    if (value?.schemaVersion !== 1 || typeof value.files !== 'object' || typeof value.made !== 'object')
      return undefined;
    return value as Stamp;
  } catch {
    return undefined;
  }
}

/**
 * Compares a folder with its stamp by file sizes: cheap, done at every start.
 *
 * @returns undefined when all is well, else what is wrong
 */
export function findDamage(folder: string, only: (path: string) => boolean = () => true): string | undefined {
  const stamp = readStamp(folder);
  if (stamp === undefined) return 'no readable stamp.json';
  for (const [path, expected] of Object.entries(stamp.files)) {
    if (!only(path)) continue;
    const bytes = statSync(join(folder, path), { throwIfNoEntry: false })?.size;
    if (bytes === undefined) return `${path}: missing`;
    if (bytes !== expected.bytes) return `${path}: must be ${expected.bytes} bytes, got ${bytes}`;
  }
  return undefined;
}

/**
 * Compares a folder with its stamp by sizes and then by hashes. Reads every hashed file once.
 *
 * @returns undefined when all is well, else what is wrong
 */
export async function findDeepDamage(folder: string): Promise<string | undefined> {
  const damage = findDamage(folder);
  if (damage !== undefined) return damage;
  for (const [path, expected] of Object.entries(readStamp(folder)?.files ?? {})) {
    if (expected.sha256 === undefined) continue;
    const sha256 = await hashFile(join(folder, path));
    if (sha256 !== expected.sha256) return `${path}: must have sha256 ${expected.sha256}, got ${sha256}`;
  }
  return undefined;
}

/**
 * sha256 of a file, streamed.
 *
 * @param path - the file
 * @returns lower-case hex
 */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}
