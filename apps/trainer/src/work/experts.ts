/** @file `moebius experts`: a sparse model loses experts, gets more, or becomes dense. */
import { MoebiusError } from '@moebius/core';
import { editModelExperts, mergeModel, openModelValues } from '@moebius/model/surgery';
import type { EditModelOptions, MergeModelOptions, ModelValues } from '@moebius/model/surgery';
import { busiestExperts } from '@moebius/routing/surgery';

import type { Removal } from '../commands/experts.ts';
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
  readonly noise: number;
  readonly seed: number;
}

/** Removes and adds experts. */
export async function edit(flags: EditFlags, context: CommandContext): Promise<number> {
  const { add = [], remove, topK, noise, seed } = flags;
  if (add.length === 0 && remove === undefined) {
    throw wrong('experts edit: must be given --remove or --add, got neither (say which experts go or come)');
  }
  return rewrite(flags, context, async (values) => {
    const plugins = await loadNamed(flags, context.host);
    const options = { add, noise, seed, plugins, ...(topK === undefined ? {} : { topK }) };
    return editModelExperts(values, { ...options, ...(await removed(flags, context, values)) });
  });
}

async function removed(
  flags: EditFlags,
  context: CommandContext,
  { config }: ModelValues,
): Promise<Pick<EditModelOptions, 'remove'>> {
  const { remove } = flags;
  if (remove === undefined) return {};
  if ('list' in remove) return { remove: remove.list };
  const { num_experts: experts } = config;
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
