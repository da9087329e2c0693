/** @file `moebius doctor`: the engine's own doctor, which lives with the engine in @moebius/tensor. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';

/** Flags. */
export interface DoctorFlags {
  readonly engine?: string;
  readonly threads?: string;
  readonly deep?: boolean;
}

/** Runs the engine's doctor. */
export async function doctor(flags: DoctorFlags, { terminal }: CommandContext): Promise<number> {
  const parameters = ['doctor'];
  if (flags.engine !== undefined) parameters.push('--engine', flags.engine);
  if (flags.threads !== undefined) parameters.push('--threads', flags.threads);
  if (flags.deep === true) parameters.push('--deep');
  if (terminal.isJson) parameters.push('--json');
  const status = await run([engineCommand(), ...parameters]);
  // The engine's doctor says 2 when only a slower engine works: a finding, not a failure.
  return status === 0 || status === 2 ? exitCodes.ok : exitCodes.engine;
}

/** The file of the `moebius-tensor` command. */
function engineCommand(): string {
  const manifestUrl = import.meta.resolve('@moebius/tensor/package.json');
  const manifest = JSON.parse(readFileSync(fileURLToPath(manifestUrl), 'utf8')) as {
    bin: { [name: string]: string };
  };
  return fileURLToPath(new URL(manifest.bin['moebius-tensor'] ?? './dist/cli.js', manifestUrl));
}

function run(parameters: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...parameters], { stdio: 'inherit' });
    child.on('error', reject);
    child.on('close', (status) => resolve(status ?? 1));
  });
}
