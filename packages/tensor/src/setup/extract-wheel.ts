/** @file Takes the members we need out of a wheel (a zip), streamed, hashed and flushed to the disk. */
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Readable } from 'node:stream';

import yauzl, { type Entry } from 'yauzl';

import { type SetupPorts } from './ports.ts';
import { type LibraryRecipe } from './recipe.ts';
import { type StampedFile } from './stamp.ts';

interface OpenZip {
  eachEntry(): AsyncIterable<Entry>;
  openReadStreamPromise(entry: Entry): Promise<Readable>;
  close(): void;
}

/** A member that is larger than this is no header and no library of ours. */
const memberLimitBytes = 4 * 2 ** 30;
/** Headers are small: this many are written at a time, so that their flushes share disk commits. */
const parallelWrites = 16;

/**
 * Extracts a recipe's libraries and headers.
 *
 * @param wheel - path of the verified wheel
 * @param recipe - names the members
 * @param target - existing empty folder
 * @param ports - file writing
 * @returns every file written, for the stamp: libraries with size and hash, headers with size
 */
export async function extractWheel(
  wheel: string,
  recipe: LibraryRecipe,
  target: string,
  ports: SetupPorts,
): Promise<Record<string, StampedFile>> {
  const files: Record<string, StampedFile> = {};
  const folders = new Set<string>();
  const zip = await openZip(wheel);
  const pending = new Set<Promise<void>>();
  try {
    for await (const entry of zip.eachEntry()) {
      const path = targetPath(entry.fileName, recipe);
      if (path === undefined || entry.uncompressedSize > memberLimitBytes) continue;
      const isLibrary = entry.fileName in recipe.libraries;
      const folder = dirname(join(target, path));
      if (!folders.has(folder)) await mkdir(folder, { recursive: true });
      folders.add(folder);
      const work = (async () => {
        files[path] = await writeMember(
          await zip.openReadStreamPromise(entry),
          join(target, path),
          isLibrary,
          ports,
        );
      })();
      pending.add(work);
      work.then(
        () => pending.delete(work),
        () => {},
      );
      if (isLibrary || pending.size >= parallelWrites) await Promise.race(pending);
    }
    await Promise.all(pending);
  } finally {
    await Promise.allSettled(pending);
    zip.close();
  }
  return files;
}

/** Where a member goes, or undefined when it is not needed. yauzl has already refused absolute paths and `..`. */
function targetPath(member: string, recipe: LibraryRecipe): string | undefined {
  if (member.endsWith('/')) return undefined;
  const library = recipe.libraries[member];
  if (library !== undefined) return library;
  if (!recipe.headerPrefixes.some((prefix) => member.startsWith(prefix))) return undefined;
  return `include/${member.slice(recipe.headerRoot.length)}`;
}

async function writeMember(
  stream: Readable,
  path: string,
  hashed: boolean,
  ports: SetupPorts,
): Promise<StampedFile> {
  const hash = createHash('sha256');
  const writer = await ports.openWriter(path);
  let bytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (hashed) hash.update(chunk);
      await writer.write(chunk);
    }
    await writer.finish();
  } catch (error) {
    stream.destroy();
    await writer.abandon().catch(() => {});
    throw error;
  }
  return hashed ? { bytes, sha256: hash.digest('hex') } : { bytes };
}

function openZip(path: string): Promise<OpenZip> {
  const promised = yauzl as unknown as { openPromise(path: string, options: object): Promise<OpenZip> };
  return promised.openPromise(path, { lazyEntries: true, autoClose: false });
}
