/**
 * @file Making a file or folder of the cache once: under a lock, in a place of its own, moved into view by one
 * rename. Another process sees all of it or nothing; an interrupted one leaves a temporary that the next removes.
 *
 * The lock is held by a process as long as it lives, however long it blocks (tokenizing does), and given up by its
 * death. It only saves work: each builder has a temporary of its own, so that even two at once harm nothing.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { MoebiusError } from '@moebius/core';

import { tryLock } from '../files/owner-lock.ts';
import type { HeldLock, LockOwner } from '../files/owner-lock.ts';
import { isAlive } from '../files/process-identity.ts';

const waitMs = 200;
const mostWaits = 3000; // ten minutes: a download over a slow line
/** A shared cache may hold the lock of another machine, which nobody can ask about. */
const foreignAgeMs = 600_000;

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
  const lock = await waitForLock(target);
  const temporary = `${target}.${process.pid}-${randomUUID()}.partial`;
  try {
    if (await exists(target)) return false;
    if (lock !== undefined) await asIo(target, () => removeLeftovers(target));
    await build(temporary);
    return await moveIntoView(temporary, target);
  } finally {
    await rm(temporary, { recursive: true, force: true });
    lock?.release();
  }
}

/** The lock of a target; nothing when its owner is on another machine, and was there long ago. */
async function waitForLock(target: string): Promise<HeldLock | undefined> {
  for (let waits = 0; ; waits += 1) {
    const attempt = await asIo(target, async () => tryLock(`${target}.lock`, `making ${basename(target)}`));
    if (attempt.held !== undefined) return attempt.held;
    const { owner } = attempt;
    if (owner === undefined || (owner.state === 'unknown' && owner.ageMs > foreignAgeMs)) return undefined;
    // Others may be waiting, too: whoever is first makes it for all.
    if (await exists(target)) return undefined;
    if (waits >= mostWaits) throw tooLong(target, owner);
    await sleep(waitMs);
  }
}

/** What builders that were killed left beside the target: temporaries, and temporaries of those. */
async function removeLeftovers(target: string): Promise<void> {
  const start = `${basename(target)}.`;
  for (const name of await readdir(dirname(target))) {
    const rest = name.startsWith(`.${start}`) ? name.slice(start.length + 1) : name.slice(start.length);
    const isOurs = name.startsWith(start) || name.startsWith(`.${start}`);
    const [, pid] = /^(?:(\d+)-[0-9a-f-]{36}\.)?partial(?:\.\d+\.tmp)?$/.exec(rest) ?? [];
    const isLeft = rest === 'partial' || (pid !== undefined && !isAlive(Number(pid)));
    if (isOurs && isLeft) await rm(join(dirname(target), name), { recursive: true, force: true });
  }
}

async function moveIntoView(temporary: string, target: string): Promise<boolean> {
  try {
    await asIo(target, () => rename(temporary, target));
    return true;
  } catch (error) {
    // A folder does not replace one that somebody else published meanwhile.
    if (await exists(target)) return false;
    throw error;
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

function tooLong(target: string, { pid, host }: LockOwner): MoebiusError {
  const minutes = Math.round((mostWaits * waitMs) / 60_000);
  return new MoebiusError({
    code: 'io',
    message: `cache: expected ${target} to be made within ${minutes} minutes, got no end of process ${pid} on ${host} (wait for it, or end it and try again)`,
    details: { target, pid, host, minutes },
  });
}
