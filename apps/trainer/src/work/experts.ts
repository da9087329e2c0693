/** @file `moebius experts`: a sparse model loses experts, gets more, or becomes dense. */
import { join } from 'node:path';

import { MoebiusError } from '@moebius/core';
import type { ModelConfig } from '@moebius/model';
import { editModelExperts, mergeModel, openModelValues } from '@moebius/model/surgery';
import type { EditModelOptions, MergeModelOptions, ModelValues } from '@moebius/model/surgery';
import { busiestExperts } from '@moebius/routing/surgery';
import { modelFolderName, modelOfRun } from '@moebius/train';

import type { Removal } from '../commands/experts.ts';
import { editRunFolder, findResumableRun } from '../edit-run-folder.ts';
import type { ResumableRun } from '../edit-run-folder.ts';
import type { EngineFlags } from '../engine-flags.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { measureLoad } from '../inspect-routing.ts';
import type { ModelFlags } from '../model-flags.ts';
import { findModelFolder, loadNamed } from '../model-folder.ts';
import { findTarget, writeSurgery } from '../surgery-output.ts';
import type { OutputFlags } from '../surgery-output.ts';

/** Flags of both. */
export interface TextFlags extends OutputFlags, EngineFlags, ModelFlags {
  readonly path: string;
  readonly text?: string;
  readonly field?: string;
  readonly maxTokens: number;
}

/** Flags. */
export interface EditFlags extends TextFlags {
  readonly remove?: Removal;
  readonly add?: EditModelOptions['add'];
  readonly topK?: number;
  readonly steps?: number;
  readonly noise: number;
  readonly seed: number;
}

/** Removes and adds experts. */
export async function edit(flags: EditFlags, context: CommandContext): Promise<number> {
  const { add = [], remove } = flags;
  if (add.length === 0 && remove === undefined) {
    throw wrong('experts edit: must be given --remove or --add, got neither (say which experts go or come)');
  }
  const run = await findResumableRun(flags.path, context.host.workingFolder);
  if (run !== undefined) return editRun(run, flags, context);
  if (flags.steps !== undefined) {
    throw wrong('--steps: must stand with a run that has a checkpoint, got another folder (leave it out)');
  }
  return rewrite(flags, context, async (values) =>
    editModelExperts(values, await editOptions(flags, context, values.config)),
  );
}

/** A run with a checkpoint: model folder, where it has one, and checkpoint. */
async function editRun(run: ResumableRun, flags: EditFlags, context: CommandContext): Promise<number> {
  const { host } = context;
  const { folder, config, modelFolder } = run;
  const { steps } = flags;
  const began = host.nowMs();
  const target = await findTarget(flags, folder, host.workingFolder);
  if (modelFolder === undefined) {
    const model = modelOfRun(folder, config);
    const edit = await editOptions(flags, context, model.config);
    await editRunFolder(run, { target, model, edit, steps }, context);
    return exitCodes.ok;
  }
  const values = openModelValues(modelFolder, { plugins: await loadNamed(flags, host) });
  try {
    const edit = await editOptions(flags, context, values.config);
    const surgery = editModelExperts(values, edit);
    const place = { source: modelFolder, target: join(target, modelFolderName) };
    await writeSurgery({ event: 'edit', ...place, surgery, dtype: flags.dtype, began }, context);
    await editRunFolder(run, { target, model: values, edit, steps }, context);
  } finally {
    values.close();
  }
  return exitCodes.ok;
}

async function editOptions(
  flags: EditFlags,
  context: CommandContext,
  config: ModelConfig,
): Promise<EditModelOptions> {
  const { add = [], topK, noise, seed } = flags;
  const plugins = await loadNamed(flags, context.host);
  const remove = await removed(flags, context, config);
  return { add, noise, seed, plugins, ...(topK === undefined ? {} : { topK }), ...remove };
}

async function removed(
  flags: EditFlags,
  context: CommandContext,
  { num_experts: experts }: ModelConfig,
): Promise<Pick<EditModelOptions, 'remove'>> {
  const { remove } = flags;
  if (remove === undefined) return {};
  if ('list' in remove) return { remove: remove.list };
  const load = await loadOf(flags, context);
  if (load === undefined)
    throw wrong('--remove idle: must have a --text on which the load is measured, got none');
  const kept = experts - remove.idle;
  if (kept < 1) throw wrong(`--remove idle: must leave an expert of ${experts}, got idle:${remove.idle}`);
  const least = Object.entries(load).map(([layer, counts]) => {
    const busy = busiestExperts(counts, kept);
    return [
      layer,
      Array.from(counts, (_, expert) => expert).filter((expert) => !busy.includes(expert)),
    ] as const;
  });
  return { remove: Object.fromEntries(least) };
}

/** Flags. */
export interface MergeFlags extends TextFlags {
  readonly method: MergeModelOptions['method'];
  readonly count?: number;
  readonly rank?: number;
}

/** Makes a dense model. */
export async function merge(flags: MergeFlags, context: CommandContext): Promise<number> {
  const { method, count, rank, text } = flags;
  if ((method === 'top' || method === 'best') && text === undefined) {
    throw wrong(`--method ${method}: must have a --text on which the load of experts is measured, got none`);
  }
  return rewrite(flags, context, async (values) => {
    const load = await loadOf(flags, context);
    return mergeModel(values, {
      method,
      ...(load === undefined ? {} : { load }),
      ...(count === undefined ? {} : { count }),
      ...(rank === undefined ? {} : { rank }),
    });
  });
}

async function loadOf(
  flags: TextFlags,
  context: CommandContext,
): Promise<{ readonly [layer: number]: readonly number[] } | undefined> {
  const { text } = flags;
  return text === undefined ? undefined : measureLoad({ ...flags, text }, context);
}

type Operation = (values: ModelValues) => Promise<Parameters<typeof writeSurgery>[0]['surgery']>;

async function rewrite(
  flags: EditFlags | MergeFlags,
  context: CommandContext,
  operate: Operation,
): Promise<number> {
  const { host } = context;
  const began = host.nowMs();
  const source = await findModelFolder(flags.path, host.workingFolder);
  const target = await findTarget(flags, source, host.workingFolder);
  const plugins = await loadNamed(flags, host);
  const values = openModelValues(source, { plugins });
  try {
    const surgery = await operate(values);
    const event = 'method' in flags ? 'merge' : 'edit';
    await writeSurgery({ event, source, target, surgery, dtype: flags.dtype, began }, context);
  } finally {
    values.close();
  }
  return exitCodes.ok;
}

function wrong(message: string): MoebiusError {
  return new MoebiusError({ code: 'configuration', message });
}
