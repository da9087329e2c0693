/** @file `moebius upcycle`: a dense model gets experts. */
import { MoebiusError } from '@moebius/core';
import { openModelValues, upcycleModel } from '@moebius/model/surgery';

import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { layersOf } from '../layer-list.ts';
import type { LayerChoice } from '../layer-list.ts';
import { findModelFolder } from '../model-folder.ts';
import { findTarget, writeSurgery } from '../surgery-output.ts';
import type { OutputFlags } from '../surgery-output.ts';

/** Flags. */
export interface UpcycleFlags extends OutputFlags {
  readonly path: string;
  readonly experts: number;
  readonly topK: number;
  readonly mode: 'copy' | 'granular' | 'split';
  readonly shards?: number;
  readonly split: 'order' | 'random' | 'cluster';
  readonly noise: number;
  readonly layers?: LayerChoice;
  readonly router: 'random' | 'zero' | 'mean-key';
  readonly placing: 'output' | 'even';
  readonly renormalise: boolean;
  readonly seed: number;
}

/** Upcycles a folder. */
export async function upcycle(flags: UpcycleFlags, context: CommandContext): Promise<number> {
  const { host } = context;
  const began = host.nowMs();
  const { experts, topK, split, noise, router, placing, renormalise, seed, dtype } = flags;
  const shards = shardsOf(flags);
  const source = await findModelFolder(flags.path, host.workingFolder);
  const target = await findTarget(flags, source, host.workingFolder);
  const values = openModelValues(source);
  try {
    const layers = layersOf(flags.layers, values.config.num_hidden_layers);
    const options = { experts, topK, shards, split, noise, router, placing, renormalise, seed };
    const surgery = upcycleModel(values, { ...options, ...(layers === undefined ? {} : { layers }) });
    await writeSurgery({ event: 'upcycle', source, target, surgery, dtype, began }, context);
  } finally {
    values.close();
  }
  return exitCodes.ok;
}

function shardsOf({ mode, shards, experts }: UpcycleFlags): number {
  const fail = (expectation: string, got: string, remedy: string): never => {
    throw new MoebiusError({
      code: 'configuration',
      message: `--shards: ${expectation}, got ${got} (${remedy})`,
      details: { mode, shards: shards ?? null },
    });
  };
  if (mode === 'granular')
    return (
      shards ?? fail('must be given with --mode granular', 'none', 'into how many experts is a copy cut?')
    );
  if (shards !== undefined) return fail('must stand with --mode granular', `--mode ${mode}`, 'leave it out');
  return mode === 'split' ? experts : 1;
}
