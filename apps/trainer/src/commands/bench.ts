/** @file `moebius bench`: how fast this machine trains and decodes a recipe's model. A look, not a measurement for papers. */
import type { Command } from 'commander';

import { wholeNumber } from '../flags.ts';
import type { Start } from '../program.ts';
import { addRunFlags } from '../run-flags.ts';

const help = `
Examples:
  $ moebius bench                                      the demo's model
  $ moebius bench --recipe reference --repeat 10
  $ moebius bench --engine wasm --recipe smoke
  $ moebius bench --set model.num_experts=64 --json

Medians of a few steps on real text, after two that are not counted. Close other programs; timings on a
busy machine mean nothing. For comparisons with other software see benchmarks/.`;

/** Adds `bench`. */
export function addBench(program: Command, start: Start): void {
  const command = program.command('bench').description('time training steps and decoding of a recipe');
  addRunFlags(command, { duration: false })
    .option('--repeat <count>', 'steps that count', wholeNumber(1), 8)
    .option('--max-tokens <count>', 'tokens to decode', wholeNumber(2), 64)
    .addHelpText('after', help)
    .action(start(async () => (await import('../work/bench.ts')).bench));
}
