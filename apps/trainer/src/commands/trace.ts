/** @file `moebius trace`: which token of a text went to which expert, as a file and as pictures. */
import type { Command } from 'commander';

import { capacityFactor, capacityMethodName, capacityScope, dropKey } from '../capacity-flags.ts';
import { addEngineFlags } from '../engine-flags.ts';
import { wholeNumber } from '../flags.ts';
import { addModelFlags } from '../model-flags.ts';
import type { Start } from '../program.ts';
import type { TraceFlags } from '../work/trace.ts';

const help = `
Examples:
  $ moebius trace runs/demo letter.txt                          the load of every expert, drawn
  $ moebius trace runs/demo letter.txt --out trace.jsonl        and who went where, for other programs
  $ moebius trace runs/demo letter.txt --capacity 1.25          before and after a cap
  $ moebius trace runs/demo letter.txt --capacity 1 --method expanded --devices 4 --svg pictures
  $ cat letter.txt | moebius trace runs/demo - --json

In a picture, the solid part of a bar was kept, the light part dropped, the rest added. The file is JSON Lines: a header,
a pass with its token ids, then for each sparse layer its plan and the weights of its pairs, and a last line that says
that it is whole. @moebius/routing/metrics reads it, and can route by it again.`;

/** Adds `trace`. */
export function addTrace(program: Command, start: Start): void {
  const command = program
    .command('trace')
    .description('record and draw which experts the tokens of a text go to')
    .argument('<model>', 'folder of a model or of a run')
    .argument('<text>', 'a file, a folder, the name of a text, or - for standard input')
    .option('--field <name>', 'field of .jsonl lines that holds the text')
    .option('--out <file>', 'where to write the trace (.jsonl)')
    .option('--svg <folder>', 'write a picture of each layer into this folder')
    .option('--max-tokens <count>', 'at most so many tokens, from the first', wholeNumber(1), 512)
    .option('--sequence <count>', 'tokens of a window', wholeNumber(1), 256)
    .option('--capacity <factor>', 'cap every expert at so many times the mean load', capacityFactor)
    .option('--drop <key>', 'with --capacity: score (default), order, reverse or random', dropKey)
    .option(
      '--method <name>',
      'with --capacity: token (default), expanded, top-m, device, reroute or expert-drop',
      capacityMethodName,
    )
    .option('--devices <count>', 'devices that share the experts (default: 1)', wholeNumber(1))
    .option('--scope <name>', 'whose tokens share a cap: global, rank (default) or sequence', capacityScope);
  addModelFlags(command);
  addEngineFlags(command)
    .addHelpText('after', help)
    .action((model: string, text: string, flags: Omit<TraceFlags, 'model' | 'text'>) =>
      start(async () => (await import('../work/trace.ts')).trace)({ ...flags, model, text }),
    );
}
