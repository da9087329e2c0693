/**
 * @file Making a file or folder of the cache once: under a lock, in a place of its own, moved into view by one
 * rename. Another process sees all of it or nothing; an interrupted one leaves a temporary that the next removes.
 */
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { MoebiusError } from '@moebius/core';
import lockfile from 'proper-lockfile';

const staleMs = 60_000; // a holder that blocks its event loop (tokenizing) must not lose the lock; a killed one must not hold it long
const waitMs = 500;
const waits = 1200; // ten minutes: a download over a slow line

/**
 * Makes `target` by `build` unless it exists.
 *
 * @param target - file or folder to publish
 * @param build - writes a file or folder at the path it is given, in the same folder as `target`
 * @returns whether it was made now
 * @throws `io` when the folder cannot be written or the lock is not given up within ten minutes
 */
export async function publishOnce(
  target: string,
  build: (temporary: string) => Promise<void>,
): Promise<boolean> {
  if (await exists(target)) return false;
  await asIo(target, () => mkdir(dirname(target), { recursive: true }));
  const release = await asIo(target, () =>
    lockfile.lock(target, {
      realpath: false,
      stale: staleMs,
      // A holder that blocked for too long may lose the lock: then two make the same thing, and one rename wins.
      onCompromised: () => undefined,
      retries: { retries: waits, minTimeout: waitMs, maxTimeout: waitMs },
    }),
  );
  const temporary = `${target}.partial`;
  try {
    if (await exists(target)) return false;
    await rm(temporary, { recursive: true, force: true });
    await build(temporary);
    await asIo(target, () => rename(temporary, target));
    return true;
  } finally {
    await rm(temporary, { recursive: true, force: true });
    await release().catch(() => undefined);
  }
}

/** Whether something is there. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function asIo<T>(target: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MoebiusError({
      code: 'io',
      message: `cache: expected to write ${target}, got ${reason} (free space, or choose another cache folder)`,
      details: { target, reason },
      cause,
    });
  }
}
