/** @file The last step of making a folder: stamp it, flush it, rename it into place. A reader sees all or nothing. */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';

import { type SetupPorts } from './ports.ts';
import { type Stamp, stampFile } from './stamp.ts';

/**
 * Makes an empty staging folder whose name says who owns it.
 *
 * @param root - `<cache>/engine`
 * @param purpose - readable part of the name
 */
export async function createStaging(root: string, purpose: string): Promise<string> {
  const host = hostname().replaceAll(/[^\w-]/g, '_');
  const path = join(root, 'staging', `${purpose}@${host}@${process.pid}@${randomBytes(4).toString('hex')}`);
  await mkdir(path, { recursive: true });
  return path;
}

/**
 * Removes staging folders whose owner is gone. Call it under the lock.
 *
 * @param root - `<cache>/engine`
 */
export async function sweepStaging(root: string): Promise<void> {
  const host = hostname().replaceAll(/[^\w-]/g, '_');
  for (const name of await readdir(join(root, 'staging')).catch(() => [])) {
    const [, owner, pid] = name.split('@');
    const alive = owner !== host || (Number(pid) !== process.pid && isAlive(Number(pid)));
    if (!alive) await rm(join(root, 'staging', name), { recursive: true, force: true });
  }
}

/** Whether a process of this host lives. */
export function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Publishes a finished staging folder: writes its stamp, flushes, renames.
 *
 * @param staging - finished folder; gone afterwards
 * @param target - final path; a damaged folder there is replaced
 */
export async function publishFolder(
  staging: string,
  target: string,
  stamp: Stamp,
  ports: SetupPorts,
): Promise<void> {
  const writer = await ports.openWriter(join(staging, stampFile));
  try {
    await writer.write(Buffer.from(`${JSON.stringify(stamp, undefined, 1)}\n`));
    await writer.finish();
  } catch (error) {
    await writer.abandon().catch(() => {});
    throw error;
  }
  await flushFolder(staging);
  await mkdir(dirname(target), { recursive: true });
  const old = await createStaging(dirname(dirname(target)), 'replaced');
  await rename(target, join(old, 'old')).catch(() => {});
  await rename(staging, target);
  await flushFolder(dirname(target));
  await rm(old, { recursive: true, force: true });
}

async function flushFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
