/**
 * @file Who a process is, so that it can be recognised when it is gone: its number alone may be given to another one.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** A process, as a lock names it. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Name of the machine; processes of others cannot be asked about. */
  readonly host: string;
  /** Where its number counts: containers of one machine number their processes apart. Empty where that is unknown. */
  readonly numbering: string;
  /** When it was started, as the system says it; empty where that is unknown. */
  readonly started: string;
}

/** What became of a process: `unknown` when it is of another machine or container. */
export type ProcessState = 'alive' | 'gone' | 'unknown';

/** This process. */
export function ownIdentity(): ProcessIdentity {
  const { pid } = process;
  return { pid, host: hostname(), numbering: numbering(), started: startOf(pid) };
}

/** Whether a process still runs. A number that was given to another process since does not count. */
export function stateOf({ pid, host, numbering: where, started }: ProcessIdentity): ProcessState {
  if (host !== hostname() || where !== numbering()) return 'unknown';
  if (!isAlive(pid)) return 'gone';
  const now = startOf(pid);
  if (now === notBuried) return 'gone';
  return started === '' || now === '' || now === started ? 'alive' : 'gone';
}

/** Whether a number is that of a process on this machine, whichever it is. */
export function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** What {@link startOf} says of a process that ended, and whose parent has not asked how. */
const notBuried = 'ended';

/** The process-number namespace on Linux. */
function numbering(): string {
  return attempt(() => readlinkSync('/proc/self/ns/pid'));
}

/** On Linux the boot and the tick of it, elsewhere what `ps` says; empty on Windows. */
function startOf(pid: number): string {
  if (process.platform === 'win32') return '';
  if (process.platform !== 'linux') return attempt(() => startByPs(pid));
  return attempt(() => {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the command in brackets and may hold anything; the start is field 22.
    const fields = status.slice(status.lastIndexOf(')') + 2).split(' ');
    const [state = '', tick = ''] = [fields[0], fields[19]];
    if (state === 'Z' || state === 'X') return notBuried;
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()} ${tick}`;
  });
}

function startByPs(pid: number): string {
  const options = { encoding: 'utf8', timeout: 5_000, env: { LC_ALL: 'C', TZ: 'UTC' } } as const;
  return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], options).trim();
}

function attempt(read: () => string): string {
  try {
    return read();
  } catch {
    return '';
  }
}
