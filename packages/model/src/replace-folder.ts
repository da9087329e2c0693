/**
 * @file Putting a new folder in the place of an old one, so that a kill at any moment leaves one of them whole.
 *
 * There is no call that swaps two folders, so the old one is moved aside and the new one moved in:
 *
 *   .name.saving-PID-x/new   being written; what is at `name` stands
 *   .name.saving-PID-x/old   the old folder, from the moment the new one is whole and on the disk: the commit
 *   name                     the new folder
 *
 * Between the last two moves nothing is at `name`. Who looks then, and finds both `old` and `new` of a process that is
 * gone, makes the last move in its place.
 */
import fs from 'node:fs';
import path from 'node:path';

/**
 * Runs `write` on an empty folder beside `target`, then puts that folder in the target's place.
 *
 * @param target - absolute; may be missing, its parent must exist
 * @returns what `write` returned
 * @throws what `write` throws, or what the system says; the old folder stands
 */
export function replaceFolder<R>(target: string, write: (stage: string) => R): R {
  const workshop = fs.mkdtempSync(`${workshopStart(target)}${process.pid}-`);
  const [stage, old] = [path.join(workshop, 'new'), path.join(workshop, 'old')];
  try {
    fs.mkdirSync(stage);
    const result = write(stage);
    syncFolder(stage);
    if (fs.existsSync(target)) fs.renameSync(target, old);
    try {
      fs.renameSync(stage, target);
    } catch (error) {
      // A reader that waited too long may have made the last move for us.
      if (fs.existsSync(stage) || !fs.existsSync(target)) {
        if (fs.existsSync(old)) fs.renameSync(old, target);
        throw error;
      }
    }
    syncFolder(path.dirname(target));
    return result;
  } finally {
    fs.rmSync(workshop, { recursive: true, force: true });
  }
}

/**
 * Makes the last move of a replacement whose process was killed before it could.
 *
 * @param target - absolute; nothing is there
 * @param insist - also when its process seems to live: a number may be another process's by now
 * @returns whether a process that seems to live is about to make that move
 * @throws what the system says when it cannot be made
 */
export function finishReplacement(target: string, insist: boolean): boolean {
  for (const { workshop, pid } of listWorkshops(target)) {
    const [stage, old] = [path.join(workshop, 'new'), path.join(workshop, 'old')];
    if (!fs.existsSync(old) || !fs.existsSync(stage)) continue;
    if (!insist && isAlive(pid)) return true;
    fs.renameSync(stage, target);
    syncFolder(path.dirname(target));
    fs.rmSync(workshop, { recursive: true, force: true });
    return false;
  }
  return false;
}

/** Removes what replacements of processes that are gone left behind; something must be at the target, or never was. */
export function removeWorkshops(target: string): void {
  for (const { workshop, pid } of listWorkshops(target)) {
    if (pid === process.pid || !isAlive(pid)) fs.rmSync(workshop, { recursive: true, force: true });
  }
}

/** Makes a folder's entries durable; Windows cannot sync folders. */
export function syncFolder(folder: string): void {
  let handle: number | undefined;
  try {
    handle = fs.openSync(folder, 'r');
    fs.fsyncSync(handle);
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code !== 'EISDIR' && code !== 'EPERM' && code !== 'EACCES' && code !== 'EINVAL') throw error;
  } finally {
    if (handle !== undefined) fs.closeSync(handle);
  }
}

function workshopStart(target: string): string {
  return path.join(path.dirname(target), `.${path.basename(target)}.saving-`);
}

function listWorkshops(target: string): { readonly workshop: string; readonly pid: number }[] {
  const parent = path.dirname(target);
  const start = path.basename(workshopStart(target));
  let names: readonly string[];
  try {
    names = fs.readdirSync(parent);
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const pid = name.startsWith(start) ? /^(\d+)-/.exec(name.slice(start.length))?.[1] : undefined;
    return pid === undefined ? [] : [{ workshop: path.join(parent, name), pid: Number(pid) }];
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM';
  }
}
