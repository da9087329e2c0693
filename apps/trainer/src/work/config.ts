/** @file `moebius config`: a run's configuration as a whole: printed, checked, and described for editors. */
import { resolve } from 'node:path';

import { formatFault, isMoebiusError } from '@moebius/core';
import type { Fault } from '@moebius/core';
import type { EngineName } from '@moebius/tensor';
import { findMissingFiles, trainConfigDefinition } from '@moebius/train';
import type { TrainConfig } from '@moebius/train';

import { formatConfig } from '../config-listing.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { makeRunConfig } from '../run-config.ts';
import type { RunFlags } from '../run-config.ts';
import { findEngineName } from '../start-engine.ts';
import { reportError } from '../terminal/report-error.ts';
import { writeTextFile } from '../write-text-file.ts';

/** Flags of `config print`. */
export interface PrintFlags extends RunFlags {
  readonly outFile?: string;
}

/** Prints every value of a run, or writes them into a file that makes the same run. */
export async function print(flags: PrintFlags, context: CommandContext): Promise<number> {
  const { host, terminal } = context;
  const config = await resolveConfig(flags, context);
  if (flags.outFile !== undefined) {
    const file = resolve(host.workingFolder, flags.outFile);
    await writeTextFile(file, `${JSON.stringify(config, null, 2)}\n`, '--out-file');
    terminal.json({ event: 'config', file });
    terminal.line(`${file}: to train it: moebius train --config ${flags.outFile}`);
    return exitCodes.ok;
  }
  terminal.json(config);
  const width = terminal.isInteractive ? terminal.width : Infinity;
  for (const line of formatConfig(config, { width, faint: terminal.faint })) terminal.line(line);
  return exitCodes.ok;
}

/** The configuration a run would have; the engine is started only when the recipe depends on it. */
async function resolveConfig(flags: RunFlags, context: CommandContext): Promise<TrainConfig> {
  const { workingFolder } = context.host;
  const make = (engine: EngineName): Promise<TrainConfig> => makeRunConfig(flags, { engine, workingFolder });
  const fast = await make('native');
  const slow = await make('wasm');
  if (JSON.stringify(fast) === JSON.stringify(slow)) return fast;
  return make(await findEngineName(flags, context));
}

/** Flags of `config validate`. */
export interface ValidateFlags extends RunFlags {
  readonly files: readonly string[];
}

/** Checks configurations: files, or what the flags amount to. */
export async function validate(flags: ValidateFlags, { host, terminal }: CommandContext): Promise<number> {
  const { files, ...run } = flags;
  const { workingFolder } = host;
  const checks = files.length === 0 ? [run] : files.map((config) => ({ ...run, config }));
  let status: number = exitCodes.ok;
  for (const check of checks) {
    const subject = check.config ?? `recipe ${check.recipe ?? 'demo'}`;
    const checked = await checkOne(check, workingFolder);
    status = Math.max(status, checked.status);
    const valid = checked.faults.length === 0;
    terminal.json({ event: 'validate', subject, valid, faults: checked.faults });
    if (valid) terminal.line(`${subject}: valid`);
    else
      terminal.warn(
        `${subject}: ${checked.faults.length === 1 ? '1 fault' : `${checked.faults.length} faults`}`,
      );
    for (const fault of checked.faults) terminal.warn(`  ${formatFault(fault)}`);
  }
  return status;
}

interface Checked {
  readonly status: number;
  readonly faults: readonly Fault[];
}

async function checkOne(flags: RunFlags, workingFolder: string): Promise<Checked> {
  try {
    const config = await makeRunConfig(flags, { engine: 'native', workingFolder });
    const faults = await findMissingFiles(config);
    return { status: faults.length === 0 ? exitCodes.ok : exitCodes.usage, faults };
  } catch (error) {
    if (!isMoebiusError(error)) throw error;
    const { faults } = error.details as { faults?: readonly Fault[] };
    const whole = { path: '', expectation: error.message, got: 'see above' };
    return { status: reportError(error).status, faults: faults ?? [whole] };
  }
}

/** Flags of `config schema`. */
export interface SchemaFlags {
  readonly outFile?: string;
}

/** Prints the JSON Schema of a run configuration. */
export async function schema(flags: SchemaFlags, { host, terminal }: CommandContext): Promise<number> {
  const document = trainConfigDefinition.toJsonSchema();
  const text = JSON.stringify(document, null, 2);
  if (flags.outFile === undefined) {
    terminal.json(document);
    terminal.line(text);
    return exitCodes.ok;
  }
  const file = resolve(host.workingFolder, flags.outFile);
  await writeTextFile(file, `${text}\n`, '--out-file');
  terminal.json({ event: 'schema', file });
  terminal.line(`${file}: name it in a run configuration: { "$schema": "…", … }`);
  return exitCodes.ok;
}
