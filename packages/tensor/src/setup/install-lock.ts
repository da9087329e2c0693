/** @file One set-up at a time per cache, across processes. A killed owner's lock is taken over within seconds. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, setupError } from './errors.ts';
import { remedyFor } from './make-library.ts';
import { type SetupPorts } from './ports.ts';
import { isAlive } from './publish.ts';

/** The owner touches the lock every few seconds; older than this it is stale, whoever holds it. */
const staleMs = 30_000;
/** When the owner is known to be dead we need not wait that long (the library's minimum). */
const staleOfDeadMs = 2_000;
const pollMs = 150;

/**
 * Runs work under the cache's lock.
 *
 * The lock only saves double work: everything made is staged under an own name and published by a rename, so even a
 * lock that breaks cannot damage the cache.
 *
 * @param root - `<cache>/engine`; made when missing
 * @param patienceMs - how long to wait for another owner
 * @throws `engine`, stage `cache` (folder not writable) or `lock` (still held after `patienceMs`)
 */
export async function withInstallLock<T>(
  root: string,
  ports: SetupPorts,
  patienceMs: number,
  work: () => Promise<T>,
): Promise<T> {
  await mkdir(root, { recursive: true }).catch((error: unknown) => {
    throw cacheError(root, error);
  });
  const release = await acquire(root, ports, patienceMs);
  try {
    return await work();
  } finally {
    await release().catch(() => {});
  }
}

async function acquire(root: string, ports: SetupPorts, patienceMs: number): Promise<() => Promise<void>> {
  // Not before it is needed: importing it puts handlers on all signals, and then Ctrl-C waits for the step in progress
  // and a limit on the size of files (SIGXFSZ) ends the process instead of failing the write.
  const { default: lockfile } = await import('proper-lockfile');
  const started = ports.now();
  const ownerFile = join(root, 'owner.json');
  let told = false;
  for (;;) {
    const owner = await readOwner(ownerFile);
    const dead = owner !== undefined && owner.host === hostname() && !isAlive(owner.pid);
    try {
      const release = await lockfile.lock(root, {
        lockfilePath: join(root, 'lock'),
        stale: dead ? staleOfDeadMs : staleMs,
        update: 1_000,
        realpath: false,
        onCompromised: () => {},
      });
      await writeFile(ownerFile, JSON.stringify({ pid: process.pid, host: hostname() }));
      return release;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ELOCKED') throw cacheError(root, error);
      if (ports.now() - started > patienceMs) {
        throw setupError(
          'lock',
          `${root}: another set-up must finish within ${Math.round(patienceMs / 1000)} s, process ${owner?.pid ?? 'unknown'} still holds it (wait for it, or end it)`,
          error,
        );
      }
      if (!told) ports.report(`waiting for another set-up (process ${owner?.pid ?? 'unknown'})`);
      told = true;
      await sleep(pollMs);
    }
  }
}

async function readOwner(path: string): Promise<{ pid: number; host: string } | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as { pid: number; host: string };
  } catch {
    return undefined;
  }
}

function cacheError(root: string, error: unknown): Error {
  return setupError(
    'cache',
    `${root}: must be a writable folder, got ${messageOf(error)} (${remedyFor(error, 'choose another cache folder')})`,
    error,
  );
}
