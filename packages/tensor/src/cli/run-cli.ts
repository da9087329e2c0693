/** @file The `moebius-tensor` command line: `setup` and `doctor`. Exit codes are in {@link exitCodes}. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { isMoebiusError } from '@moebius/core';
import { Command, CommanderError, InvalidArgumentError } from 'commander';

import { type EngineOptions } from '../engine/create-engine.ts';
import { messageOf } from '../setup/errors.ts';
import { packageFolder } from '../setup/sources.ts';
import { type Console } from './console.ts';
import { type DoctorOptions } from './run-doctor.ts';
import { type SetupCommandOptions, runSetup } from './run-setup.ts';

/** What the process ends with. */
export const exitCodes: { readonly ready: 0; readonly failed: 1; readonly fallback: 2 } = {
  /** The native engine is ready. */
  ready: 0,
  /** Wrong usage, or no engine at all. */
  failed: 1,
  /** No native engine; wasm works. */
  fallback: 2,
};

const exitHelp = `
Exit codes:
  0  the native engine is ready
  1  wrong usage, or no engine works at all
  2  no native engine (the message says why and what to do); the wasm engine works`;

const setupHelp = `
Examples:
  npx @moebius/tensor setup
  npx @moebius/tensor setup --install               also adds @tensorflow/tfjs-node-gpu to this project
  npx @moebius/tensor setup --wheel ./tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl
  npx @moebius/tensor setup --cache /scratch/me --json
${exitHelp}`;

const doctorHelp = `
Examples:
  npx @moebius/tensor doctor
  npx @moebius/tensor doctor --deep                 also reads every cached byte and compares hashes
  npx @moebius/tensor doctor --engine wasm --json
${exitHelp}`;

const programHelp = `
Examples:
  npx @moebius/tensor setup     makes the fast engine in the per-user cache (a minute or two, once)
  npx @moebius/tensor doctor    explains what was found, tried and chosen
${exitHelp}`;

/**
 * Runs the command line.
 *
 * @param parameters - without node and script
 * @param terminal - where output goes and what the environment says
 * @returns the exit code
 */
export async function runCli(parameters: readonly string[], terminal: Console): Promise<number> {
  let code: number = exitCodes.ready;
  const program = new Command('moebius-tensor')
    .description('Sets up and examines the engine that Moebius computes on.')
    .version(ownVersion())
    .addHelpText('after', programHelp)
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.error(text) })
    .exitOverride();
  const cache = terminal.environment['MOEBIUS_CACHE'];
  program
    .command('setup')
    .description('make the native engine (TensorFlow with our kernels) in the per-user cache; idempotent')
    .option('--cache <folder>', 'cache folder (also MOEBIUS_CACHE; default ~/.cache/moebius)', cache)
    .option('--wheel <file>', 'a TensorFlow wheel that is already on this machine')
    .option('--install', 'first install @tensorflow/tfjs-node-gpu into the current project')
    .option('--force', 'compile again even when everything is there')
    .option('--verify', 'read every cached byte and compare hashes')
    .option('--quiet', 'no output when there is nothing to do')
    .option('--verbose', 'show the full output of pip and the compiler when they fail')
    .option('--json', 'print one JSON object')
    .addHelpText('after', setupHelp)
    .action(async (options: SetupCommandOptions) => {
      code = await runSetup(options, terminal);
    });
  program
    .command('doctor')
    .description('explain what was found, tried and chosen, and multiply two matrices')
    .option('--cache <folder>', 'cache folder (also MOEBIUS_CACHE; default ~/.cache/moebius)', cache)
    .option('--engine <name>', 'auto, native, wasm or cpu', parseEngine, 'auto')
    .option('--threads <count>', 'threads inside one operation', parseThreads)
    .option('--deep', 'read every cached byte and compare hashes')
    .option('--json', 'print one JSON object')
    .addHelpText('after', doctorHelp)
    .action(async (options: DoctorOptions) => {
      // Loaded only here: it brings TensorFlow.js with it, which `setup` does not need.
      const { runDoctor } = await import('./run-doctor.ts');
      code = await runDoctor(options, terminal);
    });
  try {
    await program.parseAsync([...parameters], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ready : exitCodes.failed;
    terminal.error(`${isMoebiusError(error) ? error.message : `internal: ${messageOf(error)}`}\n`);
    return exitCodes.failed;
  }
}

function ownVersion(): string {
  const manifest = JSON.parse(readFileSync(join(packageFolder(), 'package.json'), 'utf8')) as {
    version: string;
  };
  return manifest.version;
}

function parseEngine(text: string): EngineOptions['engine'] {
  if (text === 'auto' || text === 'native' || text === 'wasm' || text === 'cpu') return text;
  throw new InvalidArgumentError('must be auto, native, wasm or cpu.');
}

function parseThreads(text: string): number {
  const threads = Number(text);
  if (Number.isInteger(threads) && threads > 0) return threads;
  throw new InvalidArgumentError('must be a whole number above 0.');
}
