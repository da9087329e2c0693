/** @file `moebius config`: a run's configuration as a whole: printed, checked, and described for editors. */
import type { Command } from 'commander';

import type { Start } from '../program.ts';
import { recipeHelp } from '../recipes/registry.ts';
import { addRunFlags } from '../run-flags.ts';
import type { PrintFlags, SchemaFlags, ValidateFlags } from '../work/config.ts';

const help = `
Examples:
  $ moebius config print --recipe demo --lr 0.002              every value of a run, and what it means
  $ moebius config print --recipe demo --steps 500 --out-file my.json && moebius train --config my.json
  $ moebius config validate my.json other.json                 all faults at once; status 2 when there are any
  $ moebius config schema --out-file run.schema.json           then write "$schema": "./run.schema.json" into my.json

A run configuration is JSON; whatever has a default may be left out. Flags win over the file, --set over both.`;

const printHelp = `
Examples:
  $ moebius config print                                       the demo
  $ moebius config print --config my.json --batch 4            a file, with one flag changed
  $ moebius config print --recipe smoke --json > smoke.json    a file that \`moebius train --config\` reads

The file trains what the flags would have trained: the same numbers, given the same engine. Paths are absolute in it.

Recipes:
${recipeHelp}`;

const validateHelp = `
Examples:
  $ moebius config validate my.json                            files, folders and models it names are looked for too
  $ moebius config validate runs/*/run.json --json
  $ moebius config validate --recipe demo --set model.num_experts=4

Status 0 when every configuration is valid, 2 when one is not, 3 when one cannot be read or is not JSON.`;

const schemaHelp = `
Examples:
  $ moebius config schema --out-file run.schema.json
  $ moebius config schema | jq .properties.optimizer

Editors complete and check a file that names the schema: { "$schema": "./run.schema.json", … }.`;

/** Adds `config` with its own subcommands. */
export function addConfig(program: Command, start: Start): void {
  const config = program
    .command('config')
    .description('print, check and describe run configurations')
    .addHelpText('after', help);
  addRunFlags(config.command('print').description('every value of a run, defaults filled in'))
    .option('--out-file <file>', 'write it there as JSON, ready for moebius train --config')
    .addHelpText('after', printHelp)
    .action((flags: PrintFlags) => start(async () => (await import('../work/config.ts')).print)(flags));
  addRunFlags(config.command('validate').description('check run configurations, all faults at once'))
    .argument('[files...]', 'run configurations; without them the recipe and the flags are checked')
    .addHelpText('after', validateHelp)
    .action((files: readonly string[], flags: Omit<ValidateFlags, 'files'>) =>
      start(async () => (await import('../work/config.ts')).validate)({ ...flags, files }),
    );
  config
    .command('schema')
    .description('the JSON Schema of a run configuration, for editors')
    .option('--out-file <file>', 'write it there')
    .addHelpText('after', schemaHelp)
    .action((flags: SchemaFlags) => start(async () => (await import('../work/config.ts')).schema)(flags));
}
