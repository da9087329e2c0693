/**
 * @file What a run works with, made in order: engine, text, tokenizer, shards, model, and the checkpoint to go on from.
 */
import { readFile, readdir, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

import { MoebiusError, throwIfAborted } from '@moebius/core';
import type { Clock } from '@moebius/core';
import { createModel, describeParameters } from '@moebius/model';
import type { Router } from '@moebius/routing';
import type { DecoderModel, ModelConfig, ModelOptions, WeightedLoss } from '@moebius/model';
import { createEngine } from '@moebius/tensor';
import type { OptimizerDefinition, ParameterStore, Treatments } from '@moebius/tensor';

import { createBatchSampler } from '../data/batch-sampler.ts';
import type { BatchSampler } from '../data/batch-sampler.ts';
import { prepareDatasetInStages } from '../data/dataset.ts';
import type { Dataset, DatasetStage } from '../data/dataset.ts';
import { mixSamplers } from '../data/mixed-sampler.ts';
import type { TarballDownload } from '../data/npm-tarball.ts';
import { guardExecutor, guardLoss } from '../plugins/guard-plugins.ts';
import { loadRunPlugins } from '../plugins/run-plugins.ts';
import type { RunPlugins } from '../plugins/run-plugins.ts';
import { chooseBalanceLosses } from './balance-losses.ts';
import type { Callback } from './callback.ts';
import type { PrepareEvent } from './events.ts';
import { assertInitialFolder, assertInitialTokenizer, createInitialModel } from './initial-model.ts';
import { metricsFileName } from './metrics-file.ts';
import { planTreatments } from './plan-treatments.ts';
import { capRun } from './run-capacity.ts';
import { loadCheckpoint } from './run-checkpoint.ts';
import { assertFits } from './memory-plan.ts';
import { freshProgress, planRun } from './run-plan.ts';
import type { RunPlan, RunProgress } from './run-plan.ts';
import { disposeWeights, openCopies } from './session-weights.ts';
import { tensorBoardOf } from '../tensorboard/configured-callback.ts';
import { resolveModelConfig } from './train-config.ts';
import type { TrainConfig } from './train-config.ts';
import { copyWeights } from './weight-copies.ts';

/** What a trainer takes from outside, beside its configuration. */
export interface TrainerOptions {
  /** The time. An app passes `{ nowMs: () => performance.now() }`. */
  readonly clock: Clock;
  /** Called at fixed points, in order. */
  readonly callbacks?: readonly Callback[];
  /** For corpora, tokenizers and shards. Default `~/.cache/moebius`. */
  readonly cacheFolder?: string | undefined;
  /** Ends the run after the step it is in: a checkpoint is saved when there is an output folder. */
  readonly signal?: AbortSignal | undefined;
  /** `resume` goes on from the output folder's checkpoint, `overwrite` starts anew in a folder that holds a run. Default `refuse`. */
  readonly existing?: 'refuse' | 'resume' | 'overwrite';
  /** Memory the process may need; default the machine's or the container's, null for no limit. */
  readonly memoryLimitBytes?: number | null;
  /** Milliseconds since 1970 (`Date.now`), for `tensorboard`. Default: the clock's. */
  readonly wallTimeMs?: (() => number) | undefined;
  /** Matrix products of this machine, operations per second (`findMatmulRate`), for `mfu`. */
  readonly matmulFlopsPerSecond?: number | undefined;
  /** What this process calls itself in the lock of the output folder. Default `a program with @moebius/train`. */
  readonly command?: string | undefined;
  /** How long the last save of a run waits for room on a full disk before it throws. Default 0. */
  readonly diskPatienceMs?: number | undefined;
  /** Resident bytes of the process, for metrics. */
  readonly residentBytes?: (() => number) | undefined;
  /** Balance losses instead of the configuration's. */
  readonly balance?: readonly WeightedLoss[];
  /** Who runs the experts. Default: the local executor. */
  readonly executor?: ModelOptions['executor'];
  /** Folder from which the configuration's `plugins` are looked up. Default: the working folder. */
  readonly pluginsFrom?: string | undefined;
  /** How a corpus is fetched. Default `npm pack`. */
  readonly download?: TarballDownload | undefined;
  /** One line about the engine, or about a lock that was taken over. */
  readonly onMessage?: ((line: string) => void) | undefined;
}

/** A run, ready to train. It owns its models. */
export interface Session {
  readonly config: TrainConfig;
  readonly options: TrainerOptions;
  readonly dataset: Dataset;
  /** The model that is trained. */
  readonly model: DecoderModel;
  /** The moving average of its weights; null without `ema`. */
  readonly average: DecoderModel | null;
  /** The best weights so far; null without `earlyStop` and before its first evaluation. */
  best: DecoderModel | null;
  /** Wires a model of the same kind around other weights, and takes them over. */
  readonly wire: (parameters: ParameterStore) => DecoderModel;
  /** The routers as they run, by layer, a capacity around them; null for a dense one. */
  readonly routers: readonly (Router | null)[];
  readonly sampler: BatchSampler;
  readonly balance: readonly WeightedLoss[];
  /** Those of the options, then those of plug-ins, then TensorBoard's. */
  readonly callbacks: readonly Callback[];
  readonly plan: RunPlan;
  /** The optimizer of a plug-in; undefined: a built-in one. */
  readonly optimizer: OptimizerDefinition | undefined;
  /** What is special about each parameter. */
  readonly treatments: Treatments;
  /** Where the run is; replaced after every step. */
  progress: RunProgress;
  /** Step of the checkpoint on disk; null when this session neither read nor wrote one. */
  savedStep: number | null;
}

/** The per-user cache folder when none is named. */
export function defaultCacheFolder(): string {
  return join(homedir(), '.cache', 'moebius');
}

/** Makes a session, telling each stage as it ends. */
export async function* prepareSession(
  config: TrainConfig,
  options: TrainerOptions,
): AsyncGenerator<PrepareEvent, Session, void> {
  const { clock } = options;
  await assertOutput(config, options);
  assertInitialFolder(config);
  const tensorboard = tensorBoardOf(config, options);
  const plugins = await loadRunPlugins(config, { from: options.pluginsFrom ?? '.' });
  let since = clock.nowMs();
  const done = (stage: PrepareEvent['stage'], detail: string): PrepareEvent => {
    const begun = since;
    since = clock.nowMs();
    return { kind: 'prepare', stage, detail, elapsedMs: since - begun };
  };
  const { name, threads } = config.engine;
  const engine = await createEngine({ engine: name, threads, onMessage: options.onMessage });
  yield done('engine', engine.description);
  const stages = prepareDatasetInStages({
    ...config.data,
    tokenizer: config.tokenizer,
    cacheFolder: options.cacheFolder ?? defaultCacheFolder(),
    download: options.download,
  });
  const dataset = yield* mapStages(stages, (stage, detail) => {
    throwIfAborted(options.signal, 'preparation');
    return done(stage, detail);
  });
  const session = await createSession(config, options, { dataset, plugins, tensorboard });
  yield done(
    'model',
    `${session.plan.parameters} parameters, ${session.plan.activeParameters} of them active`,
  );
  if (options.existing !== 'resume') return session;
  try {
    const { output } = config;
    if (output === null) throw noOutput();
    const identity = {
      config,
      tokenizerHash: dataset.tokenizer.hash,
      trainingTokens: dataset.training.tokens.length,
    };
    session.progress = await loadCheckpoint(session.model.parameters, {
      ...identity,
      output,
      routers: session.model.routerState,
      copies: (progress) => openCopies(session, progress),
    });
    session.savedStep = session.progress.step;
  } catch (error) {
    disposeWeights(session);
    throw error;
  }
  yield done('resume', `from step ${session.progress.step}`);
  return session;
}

/** Passes each stage on as an event. */
async function* mapStages(
  stages: AsyncGenerator<DatasetStage, Dataset, void>,
  done: (stage: DatasetStage['stage'], detail: string) => PrepareEvent,
): AsyncGenerator<PrepareEvent, Dataset, void> {
  for (;;) {
    const next = await stages.next();
    if (next.done === true) return next.value;
    yield done(next.value.stage, next.value.detail);
  }
}

interface Prepared {
  readonly dataset: Dataset;
  readonly plugins: RunPlugins;
  readonly tensorboard: readonly Callback[];
}

async function createSession(
  config: TrainConfig,
  options: TrainerOptions,
  { dataset, plugins, tensorboard }: Prepared,
): Promise<Session> {
  const { length } = config.batch;
  const modelConfig = resolveModelConfig(await readModelFields(config.model), dataset.tokenizer);
  assertLength(length, modelConfig);
  await assertInitialTokenizer(config, dataset.tokenizer);
  const { memoryLimitBytes: limitBytes, residentBytes } = options;
  const { parts } = plugins;
  const limits = { limitBytes: limitBytes ?? undefined, usedBytes: residentBytes?.() };
  if (limitBytes !== null) assertFits(config, modelConfig, { ...limits, parts });
  const sampler = createRunSampler(config, dataset);
  const plan = planRun(config, modelConfig, parts);
  assertFillsStep(sampler, plan, length);
  const ids = describeParameters(modelConfig, parts).map(({ id }) => id);
  const treatments = planTreatments(config.optimizer, ids);
  const executor = options.executor ?? plugins.executor;
  const aroundRouter = capRun(config.capacity, modelConfig);
  const wiring = {
    ...parts,
    aroundRouter,
    ...(executor === undefined ? {} : { executor: guardExecutor(executor) }),
  };
  const chosen = options.balance?.map(guardLoss) ?? [
    ...chooseBalanceLosses(config),
    ...plugins.balance.map(guardLoss),
  ];
  const model = await createInitialModel(config, modelConfig, wiring);
  const wire = (parameters: ParameterStore): DecoderModel =>
    createModel({
      ...wiring,
      generation: model.generation,
      config: modelConfig,
      parameters,
      routerState: model.routerState,
    });
  return {
    config,
    options,
    dataset,
    sampler,
    model,
    average: config.ema === null ? null : wire(copyWeights(model.parameters)),
    best: null,
    wire,
    routers: model.parts.routers.map((router, layer) =>
      router === null || aroundRouter === undefined ? router : aroundRouter(router, layer),
    ),
    balance: modelConfig.num_experts === 0 ? [] : chosen,
    callbacks: [...(options.callbacks ?? []), ...plugins.callbacks, ...tensorboard],
    plan,
    optimizer: plugins.optimizer,
    treatments,
    progress: freshProgress,
    savedStep: null,
  };
}

/** The model's fields: given, or those of a model folder (whose vocabulary then stands). */
async function readModelFields(model: TrainConfig['model']): Promise<{ readonly [key: string]: unknown }> {
  if (typeof model !== 'string') return model;
  const file = model.endsWith('.json') ? model : join(model, 'config.json');
  try {
    return JSON.parse(await readFile(file, 'utf8')) as { readonly [key: string]: unknown };
  } catch (cause) {
    throw new MoebiusError({
      code: 'io',
      message: `model: expected a config.json at ${file}, got ${cause instanceof Error ? cause.message : String(cause)} (name a model folder, or write the configuration itself)`,
      details: { file },
      cause,
    });
  }
}

function assertLength(length: number, model: ModelConfig): void {
  if (length <= model.max_position_embeddings) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `batch.length: must be at most the model's max_position_embeddings ${model.max_position_embeddings}, got ${length} (shorten the sequence)`,
    details: { length, positions: model.max_position_embeddings },
  });
}

/** Rows of the text, with those of the text to mix in. */
function createRunSampler({ batch, seed, data }: TrainConfig, { training, replay }: Dataset): BatchSampler {
  const { length } = batch;
  const main = createBatchSampler(training, { length, seed });
  if (replay === undefined || data.replay === undefined) return main;
  return mixSamplers(main, createBatchSampler(replay, { length, seed }), data.replay.share);
}

/** A step never sees a window twice. */
function assertFillsStep(sampler: BatchSampler, { rowsPerStep }: RunPlan, length: number): void {
  const { rowsPerEpoch } = sampler;
  if (rowsPerEpoch >= rowsPerStep) return;
  throw new MoebiusError({
    code: 'data',
    message: `training text: must fill a step of ${rowsPerStep} sequences of ${length} tokens, got ${rowsPerEpoch} (add text, or lower batch.sequences, batch.accumulation or batch.length)`,
    details: { rowsPerEpoch, rowsPerStep, length },
  });
}

/** A run never writes into another's folder by accident. */
async function assertOutput(config: TrainConfig, options: TrainerOptions): Promise<void> {
  const { existing = 'refuse' } = options;
  if (config.output === null || existing !== 'refuse') return;
  const { output } = config;
  const entries = await readdir(output).catch(() => []);
  // Metrics without a line are those of a run that was killed before its first step.
  const isBegun = await stat(join(output, metricsFileName)).then(
    ({ size }) => size > 0,
    () => false,
  );
  const signs = ['checkpoint', 'model', ...(isBegun ? [metricsFileName] : [])];
  const found = entries.filter((entry) => signs.includes(entry));
  if (found.length === 0) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `output: must be a folder without a run, got ${config.output} with ${found.join(', ')} (resume it, overwrite it, or name another folder)`,
    details: { output: config.output, found },
  });
}

function noOutput(): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: 'resume: must have an output folder to go on from, got null (name the folder of the run)',
  });
}
