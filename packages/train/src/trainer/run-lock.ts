/**
 * @file One run at a time in an output folder: `<output>/lock` names the process that writes there.
 */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

import { MoebiusError } from '@moebius/core';

import { tryLock } from '../files/owner-lock.ts';
import type { LockOwner } from '../files/owner-lock.ts';

/** Name of the lock in a run's output folder. */
export const runLockName = 'lock';

/** How {@link lockRun} works. */
export interface LockRunOptions {
  /** What others read about this process while it holds the folder, for example its command line. */
  readonly command: string;
  /** Told when the lock was that of a process that died. */
  readonly onMessage?: ((line: string) => void) | undefined;
}

/** A run folder that belongs to this process. */
export interface RunLock {
  /** Lets others use the folder. May be called again. */
  release(): void;
}

/**
 * Takes a run's output folder for this process, until it is released or the process ends, however it ends. Hold it
 * while writing into a run.
 *
 * @param output - made when missing
 * @throws `io` when another process has it (with its number, machine, command and age), or it cannot be written
 * @example
 * ```ts
 * const lock = lockRun('runs/demo', { command: 'copy weights into the run' });
 * try {
 *   // write into runs/demo
 * } finally {
 *   lock.release();
 * }
 * ```
 */
export function lockRun(output: string, { command, onMessage }: LockRunOptions): RunLock {
  const file = join(output, runLockName);
  const made = writable(output, () => mkdirSync(output, { recursive: true })) !== undefined;
  const attempt = writable(output, () => tryLock(file, command));
  if (attempt.held === undefined) throw inUse(output, attempt.owner);
  const { held } = attempt;
  for (const { pid, command: what, ageMs } of held.former.slice(0, 1)) {
    onMessage?.(
      `${output}: its last run (process ${pid}, "${what}", begun ${describeAge(ageMs)} ago) ended without giving it back; taken over`,
    );
  }
  return {
    release() {
      held.release();
      if (made) removeIfEmpty(output);
    },
  };
}

/** A folder that was made for a run which then wrote nothing. */
function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    return;
  }
}

function writable<T>(output: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MoebiusError({
      code: 'io',
      message: `output: must be a folder that can be written, got ${output} and ${reason} (check permissions and space, or name another folder)`,
      details: { output, reason },
      cause,
    });
  }
}

function inUse(output: string, owner: LockOwner | undefined): MoebiusError {
  const file = join(output, runLockName);
  const wanted = `output: must be used by one run at a time, got ${output}`;
  if (owner === undefined) {
    return new MoebiusError({
      code: 'io',
      message: `${wanted} with a lock that cannot be read (when no run uses it, delete ${file})`,
      details: { output, lock: file },
    });
  }
  const { pid, host, command, state, ageMs } = owner;
  const where = state === 'unknown' ? ` on ${host}, which cannot be asked from here` : '';
  const remedy =
    state === 'unknown'
      ? `if that run is over, delete ${file}; or name another folder`
      : `wait for it, stop it with kill ${pid}, or name another folder`;
  return new MoebiusError({
    code: 'io',
    message: `${wanted}, which process ${pid}${where} ("${command}") has had for ${describeAge(ageMs)} (${remedy})`,
    details: { output, lock: file, pid, host, command, ageMs },
  });
}

function describeAge(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}
