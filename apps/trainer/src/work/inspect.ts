/** @file `moebius inspect`: what a model is and costs, from its configuration; with a text, what its routers do. */
import { MoebiusError } from '@moebius/core';
import { parseModelConfig, readModelConfig } from '@moebius/model';
import type { ModelConfig } from '@moebius/model';
import type { TrainConfig } from '@moebius/train';

import type { EngineFlags } from '../engine-flags.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { inspectRouting } from '../inspect-routing.ts';
import { describeModel, formatModelCard } from '../model-card.ts';
import type { ModelFlags } from '../model-flags.ts';
import { findModelFolder, loadNamed } from '../model-folder.ts';
import { makeRunConfig } from '../run-config.ts';

/** Flags. */
export interface InspectFlags extends EngineFlags, ModelFlags {
  readonly path: string | undefined;
  readonly recipe?: string;
  readonly config?: string;
  readonly batch?: number;
  readonly sequence?: number;
  readonly set?: readonly string[];
  readonly text?: string;
  readonly field?: string;
  readonly maxTokens: number;
}

/** Prints what a model is and costs, and what its routers do on a text. */
export async function inspect(flags: InspectFlags, context: CommandContext): Promise<number> {
  const { host, terminal } = context;
  const { workingFolder } = host;
  const described =
    flags.path === undefined
      ? await describeRun(flags, workingFolder)
      : {
          config: readModelConfig(await findModelFolder(flags.path, workingFolder)),
          batch: 1,
          sequence: 1024,
        };
  const shape = {
    batch: flags.batch ?? described.batch,
    sequence: flags.sequence ?? described.sequence,
  };
  const card = describeModel(described.config, shape, { plugins: await loadNamed(flags, host) });
  terminal.json({ event: 'model', ...card });
  for (const line of formatModelCard(card)) terminal.line(line);
  const { text } = flags;
  if (text !== undefined) await inspectRouting({ ...flags, text }, context);
  return exitCodes.ok;
}

interface Described {
  readonly config: ModelConfig;
  readonly batch: number;
  readonly sequence: number;
}

async function describeRun(flags: InspectFlags, workingFolder: string): Promise<Described> {
  const { recipe, config: file, set, batch, sequence } = flags;
  const chosen = { recipe, config: file, set, batch, sequence };
  const given = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
  const run = await makeRunConfig(given, { engine: 'native', workingFolder });
  const model =
    typeof run.model === 'string'
      ? readModelConfig(await findModelFolder(run.model, workingFolder))
      : planModel(run);
  return { config: model, batch: run.batch.sequences, sequence: run.batch.length };
}

/** The model with the vocabulary that the tokenizer will have at most. */
function planModel({ model, tokenizer }: TrainConfig): ModelConfig {
  if ('path' in tokenizer && (model as { vocab_size?: unknown }).vocab_size === undefined) {
    throw new MoebiusError({
      code: 'configuration',
      message:
        'model.vocab_size: must be given when the tokenizer is a file, got nothing (--set model.vocab_size=…)',
    });
  }
  const vocabulary = 'vocabularySize' in tokenizer ? { vocab_size: tokenizer.vocabularySize } : {};
  return parseModelConfig({ ...vocabulary, ...(model as object) }, 'model');
}
