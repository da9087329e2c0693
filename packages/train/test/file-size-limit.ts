/** @file A disk that is full for this process alone: the system's limit on the size of files, which can be lifted again. */
import { spawnSync } from 'node:child_process';

/** Whether this machine can limit a process that runs (`prlimit`, Linux). */
export const canLimitFiles: boolean = prlimit('--fsize').status === 0;

/** From now on no file of this process grows beyond so many bytes (EFBIG); undefined lifts the limit. */
export function limitFiles(bytes: number | undefined): void {
  const { status, stderr } = prlimit(`--fsize=${bytes ?? 'unlimited'}:`);
  if (status !== 0) throw new Error(`prlimit: ${stderr}`);
}

function prlimit(parameter: string): { readonly status: number | null; readonly stderr: string } {
  return spawnSync('prlimit', ['--pid', String(process.pid), parameter], { encoding: 'utf8' });
}
