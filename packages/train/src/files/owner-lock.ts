/**
 * @file A lock that is held by a process as long as it lives, with its owner's name in it.
 *
 * A lock is a file that appears whole: it is written under a name of its own and linked to its place, which fails when
 * somebody is there. It does not age: a training step may block its process for minutes, so nobody can be asked to
 * touch a file in time. Instead the owner is looked up. When it is gone, those who want its lock line up behind it:
 * each tries to make `<lock>.after-<id of the dead owner>`, one succeeds, and if that one dies too, the next lines up
 * behind it in turn. The winner then moves its claim over the lock. Nobody ever removes a lock that is not its own, so
 * no order of events lets two in; whoever finds the lock replaced after its claim withdraws the claim.
 */
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { z } from '@moebius/core';

import { ownIdentity, stateOf } from './process-identity.ts';
import type { ProcessState } from './process-identity.ts';

const recordSchema = z.object({
  id: z.string().regex(/^[0-9a-f-]{36}$/),
  pid: z.int().positive(),
  host: z.string(),
  numbering: z.string(),
  started: z.string(),
  command: z.string(),
});
type LockRecord = z.infer<typeof recordSchema>;

/** Who holds a lock. */
export interface LockOwner {
  readonly pid: number;
  readonly host: string;
  /** What it is doing, in its own words. */
  readonly command: string;
  readonly state: ProcessState;
  /** Since when, by the clock of the file system; never negative. */
  readonly ageMs: number;
}

/** A lock that this process holds. */
export interface HeldLock {
  /** Owners that died with the lock, whose place was taken; usually none. */
  readonly former: readonly LockOwner[];
  /** Gives it back. Blocks; may be called again. */
  release(): void;
}

/** What an attempt to lock gave: the lock, or who has it; no owner when the file cannot be read as a lock. */
export type LockAttempt =
  | { readonly held: HeldLock }
  | { readonly held: undefined; readonly owner: LockOwner | undefined };

/** Orders of events that are tried again; every one of them means that somebody else got further. */
const mostAttempts = 100;

/**
 * Tries to take a lock, without waiting.
 *
 * @param file - the lock; its folder must exist
 * @param command - what the owner is doing, for others to read
 * @throws what the system says when the folder cannot be written
 */
export function tryLock(file: string, command: string): LockAttempt {
  const record: LockRecord = { id: randomUUID(), ...ownIdentity(), command };
  const candidate = `${file}.${record.id}.tmp`;
  try {
    for (let attempt = 0; ; attempt += 1) {
      writeRecord(candidate, record);
      const found = takeOrWait({ file, candidate, record });
      if (found !== 'again') return found;
      if (attempt >= mostAttempts) return { held: undefined, owner: undefined };
    }
  } finally {
    rmSync(candidate, { force: true });
  }
}

interface Candidacy {
  readonly file: string;
  readonly candidate: string;
  readonly record: LockRecord;
}

function takeOrWait(candidacy: Candidacy): LockAttempt | 'again' {
  const { file, candidate, record } = candidacy;
  if (tryLink(candidate, file)) return { held: hold(file, record, []) };
  const head = readRecord(file);
  if (head === 'absent') return 'again';
  const former: LockOwner[] = [];
  let last = head;
  for (let place = file; ;) {
    if (last === 'unreadable') return { held: undefined, owner: undefined };
    const owner = describeOwner(last, { place, candidate });
    if (owner === undefined) return 'again';
    if (owner.state !== 'gone') return { held: undefined, owner };
    former.push(owner);
    place = claimAfter(file, last.id);
    const next = readRecord(place);
    if (next === 'absent') break;
    last = next;
  }
  return lineUp(candidacy, { head, last, former });
}

/** Claims the place behind the last dead owner, then checks that its line still is the line. */
function lineUp(
  { file, candidate, record }: Candidacy,
  line: { readonly head: LockRecord | 'unreadable'; readonly last: LockRecord; readonly former: LockOwner[] },
): LockAttempt | 'again' {
  const claim = claimAfter(file, line.last.id);
  if (!tryLink(candidate, claim)) return 'again';
  const head = readRecord(file);
  const isSame = typeof head === 'object' && typeof line.head === 'object' && head.id === line.head.id;
  if (!isSame) {
    rmSync(claim, { force: true });
    return 'again';
  }
  renameSync(candidate, file);
  removeOldClaims(file);
  return { held: hold(file, record, line.former) };
}

/** Claims and candidates that nobody needs: the lock is ours, and who still lines up makes its file again. */
function removeOldClaims(file: string): void {
  const start = `${basename(file)}.`;
  for (const name of readdirSync(dirname(file))) {
    const isOurs =
      name.startsWith(start) && /^(after-[0-9a-f-]{36}|[0-9a-f-]{36}\.tmp)$/.test(name.slice(start.length));
    if (isOurs) rmSync(join(dirname(file), name), { force: true });
  }
}

function hold(file: string, { id }: LockRecord, former: readonly LockOwner[]): HeldLock {
  return {
    former,
    release() {
      const head = readRecord(file);
      if (typeof head === 'object' && head.id === id) rmSync(file, { force: true });
    },
  };
}

function claimAfter(file: string, id: string): string {
  return `${file}.after-${id}`;
}

/** Durable before it is linked: after a power failure a lock is whole or not there. */
function writeRecord(path: string, record: LockRecord): void {
  const handle = openSync(path, 'w', 0o666);
  try {
    writeFileSync(handle, `${JSON.stringify(record, null, 2)}\n`);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** Puts a file in a place where nothing is; false when something is there, or when a winner has swept ours away. */
function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code === 'EEXIST' || code === 'ENOENT') return false;
    if (!noLinks.has(code)) throw error;
    return tryCopy(from, to);
  }
}

/** File systems without hard links (FAT, some network folders). */
const noLinks: ReadonlySet<string> = new Set([
  'EPERM',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EMLINK',
  'EACCES',
]);

/** There a lock is made in two moves; who is killed in between leaves an empty one, which a person must remove. */
function tryCopy(from: string, to: string): boolean {
  try {
    writeFileSync(to, readFileSync(from), { flag: 'wx' });
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EEXIST' || code === 'ENOENT') return false;
    throw error;
  }
}

function readRecord(path: string): LockRecord | 'absent' | 'unreadable' {
  try {
    return recordSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'absent' : 'unreadable';
  }
}

/** Both times are the file system's, so that no clock of ours matters; a clock that was set back gives age 0. */
function describeOwner(
  record: LockRecord,
  { place, candidate }: { readonly place: string; readonly candidate: string },
): LockOwner | undefined {
  const now = statSync(candidate, { throwIfNoEntry: false });
  const then = statSync(place, { throwIfNoEntry: false });
  if (now === undefined || then === undefined) return undefined;
  const { pid, host, command } = record;
  return { pid, host, command, state: stateOf(record), ageMs: Math.max(0, now.mtimeMs - then.mtimeMs) };
}
