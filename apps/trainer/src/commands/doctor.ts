/** @file `moebius doctor`: the engine's own doctor, which lives with the engine in @moebius/tensor. */
import type { Command } from 'commander';

import type { Start } from '../program.ts';

const help = `
Examples:
  $ moebius doctor                     what was found, tried and chosen, and how to get the fast engine
  $ moebius doctor --engine native     fails (status 4) when the native engine does not work
  $ moebius doctor --deep --json

The same as: npx @moebius/tensor doctor. To make the native engine: npx @moebius/tensor setup.`;

/** Adds `doctor`. */
export function addDoctor(program: Command, start: Start): void {
  program
    .command('doctor')
    .description('explain which engine this machine has, and why')
    .option('--engine <name>', 'auto, native, wasm or cpu')
    .option('--threads <count>', 'threads inside one operation')
    .option('--deep', 'read every cached byte and compare hashes')
    .addHelpText('after', help)
    .action(start(async () => (await import('../work/doctor.ts')).doctor));
}
