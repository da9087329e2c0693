/** @file `moebius upcycle`: a dense model gets experts. */
import { resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import { measureCoActivations, openModelValues, upcycleModel } from '@moebius/model/surgery';
import type { ModelValues } from '@moebius/model/surgery';
import { packDocuments, readTokenizer } from '@moebius/train';

import type { EngineFlags } from '../engine-flags.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { layersOf } from '../layer-list.ts';
import type { LayerChoice } from '../layer-list.ts';
import { readNamedText } from '../measured-text.ts';
import type { ModelFlags } from '../model-flags.ts';
import { findModelFolder } from '../model-folder.ts';
import { startEngine } from '../start-engine.ts';
import { findTarget, writeSurgery } from '../surgery-output.ts';
import type { OutputFlags } from '../surgery-output.ts';

/** Flags. */
export interface UpcycleFlags extends OutputFlags, EngineFlags, ModelFlags {
  readonly path: string;
  readonly experts: number;
  readonly topK: number;
  readonly mode: 'copy' | 'granular' | 'split';
  readonly shards?: number;
  readonly split: 'order' | 'random' | 'cluster' | 'co-activation';
  readonly text?: string;
  readonly field?: string;
  readonly maxTokens: number;
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
    const surgery = upcycleModel(values, {
      ...options,
      ...(layers === undefined ? {} : { layers }),
      ...(split === 'co-activation'
        ? { coActivations: await watchNeurons(values, flags, { source, context }) }
        : {}),
    });
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

/** Windows that neurons are watched in. */
const windowLength = 256;

/** Runs a text through the dense model and counts which neurons are active together. */
async function watchNeurons(
  values: ModelValues,
  flags: UpcycleFlags,
  { source, context }: { readonly source: string; readonly context: CommandContext },
): Promise<ReturnType<typeof measureCoActivations>> {
  const { host } = context;
  const { text, field, maxTokens, tokenizer: path } = flags;
  if (text === undefined) {
    throw new MoebiusError({
      code: 'configuration',
      message: '--split co-activation: must have a --text on which neurons are watched, got none',
    });
  }
  const documents = await readNamedText({ data: text, field }, host);
  const tokenizer = await readTokenizer(path === undefined ? source : resolve(host.workingFolder, path));
  await startEngine(flags, context);
  const { tokens } = packDocuments(documents, tokenizer);
  const length = Math.min(windowLength, values.config.max_position_embeddings, tokens.length);
  const windows = Math.max(1, Math.min(Math.floor(tokens.length / length), Math.ceil(maxTokens / length)));
  const stride = Math.floor(tokens.length / windows);
  const batches = Array.from({ length: windows }, (_, window) => ({
    ids: Int32Array.from(tokens.subarray(window * stride, window * stride + length)),
  }));
  return measureCoActivations(values, batches);
}
