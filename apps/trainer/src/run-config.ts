/**
 * @file From the command line to a checked run configuration: recipe or file, then flags, then `--set`.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import { parseModelConfig } from '@moebius/model';
import type { EngineName } from '@moebius/tensor';
import { parseTrainConfig } from '@moebius/train';
import type { TrainConfig } from '@moebius/train';

import { findModelFolder } from './model-folder.ts';
import { applyOverrides, parseOverride } from './overrides.ts';
import { recipes } from './recipes/registry.ts';
import { textSourceOf } from './text-flags.ts';

/** Flags that change a run's configuration. */
export interface RunFlags {
  /** Name of a recipe. */
  readonly recipe?: string;
  /** A run configuration as JSON file, instead of a recipe. */
  readonly config?: string;
  /** How long: steps, or minutes. */
  readonly steps?: number;
  /** How long, in minutes of training. */
  readonly minutes?: number;
  /** B. */
  readonly batch?: number;
  /** S. */
  readonly sequence?: number;
  /** Peak learning rate. */
  readonly lr?: number;
  /** Of weights and data order. */
  readonly seed?: number;
  /** Threads inside one operation. */
  readonly threads?: number;
  /** Engine. */
  readonly engine?: EngineName | 'auto';
  /** Output folder. */
  readonly out?: string;
  /** TensorBoard's event files: true for the output folder, or a folder. */
  readonly tensorboard?: string | boolean;
  /** Text: a folder, file, glob, or the name of a corpus. */
  readonly data?: string;
  /** Held-out text of its own. */
  readonly valData?: string;
  /** Text mixed in. */
  readonly replay?: string;
  /** Field of `.jsonl` lines. */
  readonly field?: string;
  /** A tokenizer.json, or a folder with one. */
  readonly tokenizer?: string;
  /** Folder of a model, or of a run that made one, to begin with. */
  readonly initFrom?: string;
  /** Decay of the average of the weights. */
  readonly ema?: number;
  /** Evaluations without a gain before the run ends. */
  readonly earlyStop?: number;
  /** What to do about a loss or gradient that is not finite. */
  readonly onNonfinite?: 'stop' | 'skip';
  /** `path=value` of any other scalar. */
  readonly set?: readonly string[];
}

/** What stands in for the vocabulary while the model's other defaults are filled. */
const provisionalVocabulary = 65_536;
const tokenKeys = new Set(['vocab_size', 'bos_token_id', 'eos_token_id', 'pad_token_id']);
/** Scalars that have no default. */
const optionalPaths = [
  'engine.threads',
  'schedule.warmupSteps',
  'model.vocab_size',
  'ema.decay',
  'ema.startStep',
  'earlyStop.patience',
  'earlyStop.minimumGain',
];

/**
 * Makes the run's configuration.
 *
 * @param flags - from the command line
 * @param surroundings - the engine the run will have, and where relative paths start
 * @throws `configuration` with every fault, `registry` for an unknown recipe, `io` when the file cannot be read
 */
export async function makeRunConfig(
  flags: RunFlags,
  surroundings: { readonly engine: EngineName; readonly workingFolder: string },
): Promise<TrainConfig> {
  const { engine, workingFolder } = surroundings;
  const written =
    flags.config === undefined
      ? recipes.get(flags.recipe ?? 'demo').config({ engine })
      : await readConfigFile(flags.config, workingFolder);
  const subject = flags.config ?? `recipe ${flags.recipe ?? 'demo'}`;
  const complete = withModelDefaults(parseTrainConfig(written, subject));
  const begun = await withInitialModel(complete, flags, workingFolder);
  const flagged = applyFlags(begun, flags, workingFolder);
  const changed = applyOverrides(flagged, (flags.set ?? []).map(parseOverride), optionalPaths);
  return withAbsoluteFolders(parseTrainConfig(changed), workingFolder);
}

async function readConfigFile(file: string, workingFolder: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(resolve(workingFolder, file), 'utf8');
  } catch (cause) {
    throw unreadable(file, (cause as NodeJS.ErrnoException).code ?? 'an error', cause);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MoebiusError({
      code: 'format',
      message: `${file}: must be JSON, got ${cause instanceof Error ? cause.message : String(cause)}`,
      details: { file },
      cause,
    });
  }
}

function unreadable(file: string, got: string, cause?: unknown): MoebiusError {
  return new MoebiusError({
    code: 'io',
    message: `--config: must be a readable JSON file, got ${got} for "${file}" (or choose a recipe: ${recipes.names().join(', ')})`,
    details: { file, got },
    cause,
  });
}

/** All scalars of the model, so that `--set model.…` can name each of them. */
function withModelDefaults(config: TrainConfig): TrainConfig {
  const { model } = config;
  if (typeof model === 'string') return config;
  const filled = parseModelConfig({ vocab_size: provisionalVocabulary, ...model }, 'model');
  const defaults = Object.entries(filled).filter(([key]) => !tokenKeys.has(key));
  return { ...config, model: { ...Object.fromEntries(defaults), ...model } };
}

/** With the configuration and the tokenizer of the model to begin with. */
async function withInitialModel(
  config: TrainConfig,
  { initFrom }: RunFlags,
  workingFolder: string,
): Promise<TrainConfig> {
  if (initFrom === undefined) return config;
  const folder = await findModelFolder(initFrom, workingFolder);
  return { ...config, initFrom: folder, model: folder, tokenizer: { path: folder } };
}

function applyFlags(config: TrainConfig, flags: RunFlags, workingFolder: string): TrainConfig {
  const text = { field: flags.field, workingFolder };
  return {
    ...config,
    ...(flags.seed === undefined ? {} : { seed: flags.seed }),
    ...(flags.out === undefined ? {} : { output: flags.out }),
    ...(flags.tensorboard === undefined ? {} : { tensorboard: flags.tensorboard }),
    ...(flags.tokenizer === undefined
      ? {}
      : { tokenizer: { path: resolve(workingFolder, flags.tokenizer) } }),
    ...(flags.ema === undefined ? {} : { ema: { startStep: 0, ...config.ema, decay: flags.ema } }),
    ...(flags.earlyStop === undefined
      ? {}
      : { earlyStop: { minimumGain: 0, ...config.earlyStop, patience: flags.earlyStop } }),
    numerics: {
      ...config.numerics,
      ...(flags.onNonfinite === undefined ? {} : { onNonFinite: flags.onNonfinite }),
    },
    duration: durationOf(config, flags),
    data: {
      ...config.data,
      ...(flags.data === undefined ? {} : { training: textSourceOf(flags.data, text) }),
      ...(flags.valData === undefined ? {} : { heldOut: textSourceOf(flags.valData, text) }),
      ...(flags.replay === undefined
        ? {}
        : { replay: { share: 0.25, ...config.data.replay, source: textSourceOf(flags.replay, text) } }),
    },
    batch: {
      ...config.batch,
      ...(flags.batch === undefined ? {} : { sequences: flags.batch }),
      ...(flags.sequence === undefined ? {} : { length: flags.sequence }),
    },
    optimizer: { ...config.optimizer, ...(flags.lr === undefined ? {} : { learningRate: flags.lr }) },
    engine: {
      ...config.engine,
      ...(flags.engine === undefined ? {} : { name: flags.engine }),
      ...(flags.threads === undefined ? {} : { threads: flags.threads }),
    },
  };
}

function durationOf(config: TrainConfig, { steps, minutes }: RunFlags): TrainConfig['duration'] {
  if (steps !== undefined) return { steps };
  return minutes === undefined ? config.duration : { minutes };
}

/** The folders that a run writes, named from the working folder. */
function withAbsoluteFolders(config: TrainConfig, workingFolder: string): TrainConfig {
  const { output, tensorboard } = config;
  return {
    ...config,
    output: output === null ? null : resolve(workingFolder, output),
    tensorboard: typeof tensorboard === 'string' ? resolve(workingFolder, tensorboard) : tensorboard,
  };
}
