/** @file `moebius plot`: the curves of runs as one picture. */
import { Option } from 'commander';
import type { Command } from 'commander';

import type { Start } from '../program.ts';
import type { PlotFlags } from '../work/plot.ts';

const help = `
Examples:
  $ moebius plot runs/demo                                 writes runs/demo/curves.svg
  $ moebius plot runs/demo runs/demo-2 --out compare.html  several runs, told apart by colour
  $ moebius plot runs/* --x tokens --json

Loss, held-out bits per byte beside the baselines, use of the experts, tokens per second, MFU, gradient norm
and learning rate, from metrics.jsonl. Works while a run goes on. The file loads nothing from elsewhere.`;

/** Adds `plot`. */
export function addPlot(program: Command, start: Start): void {
  program
    .command('plot')
    .description('draw the curves of runs as one SVG or HTML file')
    .argument('<runs...>', 'folders of runs, or metrics files')
    .option('--out <file>', 'where to (.svg or .html; default: curves.svg in the run, or here for several)')
    .addOption(new Option('--x <axis>', 'the horizontal axis').choices(['step', 'tokens']).default('step'))
    .option('--title <text>', 'above the picture (default: the names of the runs)')
    .addHelpText('after', help)
    .action((runs: readonly string[], flags: Omit<PlotFlags, 'runs'>) =>
      start(async () => (await import('../work/plot.ts')).plot)({ ...flags, runs }),
    );
}
