/**
 * @file What `train` is going to do: which configuration, in which folder, new or resumed, or already done.
 */
import { createHash } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { MoebiusError } from '@moebius/core';
import type { TrainConfig } from '@moebius/train';

import type { CommandContext } from './host.ts';
import { recipes } from './recipes/registry.ts';
import { makeRunConfig } from './run-config.ts';
import type { RunFlags } from './run-config.ts';
import { freshFolder, requireRunFile } from './run-file.ts';
import { cacheFolderOf, startEngine } from './start-engine.ts';

/** Flags of `train`. */
export interface TrainFlags extends RunFlags {
  /** Folder of a run to go on with. */
  readonly resume?: string;
  /** Start anew in a folder that holds a run. */
  readonly overwrite?: boolean;
  /** Steps between plain lines of progress; without it time decides. */
  readonly logSteps?: number;
  /** Whether a text is made at the end. */
  readonly sample: boolean;
  /** Whether a recipe's kept result may be taken instead. Default true. */
  readonly cached?: boolean;
}

/** What is going to happen. */
export interface TrainingPlan {
  /** The whole configuration. */
  readonly config: TrainConfig;
  /** What to do with an output folder that holds a run. */
  readonly existing: 'refuse' | 'resume' | 'overwrite';
  /** What the sample at the end continues. */
  readonly prompt: string;
  /** A folder with this very run, finished before: there is nothing to do. */
  readonly finished?: string;
  /** Keeps a finished run in the cache; returns its folder there. */
  readonly keep?: () => Promise<string>;
}

/** Recipes whose result is kept in the per-user cache, by configuration. */
const cachedRecipes = new Set(['study']);
const resumeExcludes = [
  'recipe',
  'config',
  'data',
  'valData',
  'replay',
  'field',
  'tokenizer',
  'initFrom',
  'ema',
  'earlyStop',
  'steps',
  'minutes',
  'batch',
  'sequence',
  'lr',
  'seed',
  'out',
  'set',
  'overwrite',
] as const;

/** Plans a run; starts the engine, because a recipe may depend on it. */
export async function planTraining(flags: TrainFlags, context: CommandContext): Promise<TrainingPlan> {
  return flags.resume === undefined
    ? planNewRun(flags, context)
    : planResumedRun(flags, flags.resume, context);
}

async function planResumedRun(
  flags: TrainFlags,
  folder: string,
  context: CommandContext,
): Promise<TrainingPlan> {
  const given = resumeExcludes.filter((name) => flags[name] !== undefined);
  if (given.length > 0) {
    const named = given
      .map((name) => `--${name.replace(/[A-Z]/gu, (letter) => `-${letter.toLowerCase()}`)}`)
      .join(', ');
    throw new MoebiusError({
      code: 'configuration',
      message: `--resume: must go on with the run as it was begun, got ${named} beside it (leave them out, or start a new run)`,
      details: { given },
    });
  }
  const saved = await requireRunFile(folder, context.host.workingFolder);
  const started = await withStartedEngine(saved, flags, context);
  // Whether bad steps are left out decides no number of the steps before: a run that stopped on one can go on without it.
  const { onNonfinite = started.numerics.onNonFinite, tensorboard = started.tensorboard } = flags;
  const { workingFolder } = context.host;
  const config = {
    ...started,
    numerics: { ...started.numerics, onNonFinite: onNonfinite },
    tensorboard: typeof tensorboard === 'string' ? resolve(workingFolder, tensorboard) : tensorboard,
  };
  return { config, existing: await resumeOrBegin(config, context), prompt: promptOf(config) };
}

/** What the sample continues: a recipe's prompt, also when the recipe was printed into a file first. */
function promptOf({ name }: TrainConfig): string {
  return recipes.has(name) ? recipes.get(name).prompt : '';
}

/** A run that was stopped before its first checkpoint is begun again: there is nothing that could be lost. */
async function resumeOrBegin(
  { output }: TrainConfig,
  { terminal }: CommandContext,
): Promise<'resume' | 'overwrite'> {
  const found = await entriesOf(output ?? '');
  const saved = found.includes('checkpoint') ? await entriesOf(join(output ?? '', 'checkpoint')) : [];
  if (found.includes('model') || saved.includes('state.safetensors')) return 'resume';
  terminal.note('           no checkpoint was saved: the run begins again');
  return 'overwrite';
}

async function planNewRun(flags: TrainFlags, context: CommandContext): Promise<TrainingPlan> {
  const { workingFolder } = context.host;
  // Once before the engine is started, so that a wrong flag costs no time.
  const checked = await makeRunConfig(flags, { engine: 'native', workingFolder });
  const started = await withStartedEngine(checked, flags, context);
  const { name } = started.engine;
  const engine = name === 'auto' ? 'native' : name;
  const config = { ...(await makeRunConfig(flags, { engine, workingFolder })), engine: started.engine };
  const recipe = flags.config === undefined ? recipes.get(flags.recipe ?? 'demo') : undefined;
  const prompt = promptOf(config);
  if (
    recipe !== undefined &&
    flags.out === undefined &&
    flags.cached !== false &&
    cachedRecipes.has(recipe.name)
  ) {
    return planCachedRun({ config, existing: 'overwrite', prompt }, context);
  }
  if (engine !== 'native' && recipe?.name === 'demo') {
    context.terminal.note(
      '           without the native engine the demo is scaled down; it takes about 5 minutes (see: moebius doctor)',
    );
  }
  if (flags.overwrite === true) return { config, existing: 'overwrite', prompt };
  if (flags.out !== undefined || config.output === null || flags.cached === false)
    return { config, existing: 'refuse', prompt };
  return { config: { ...config, output: await freshFolder(config.output) }, existing: 'refuse', prompt };
}

/** The configuration with the engine that runs: the same name and threads whoever asks again. */
async function withStartedEngine(
  config: TrainConfig,
  flags: TrainFlags,
  context: CommandContext,
): Promise<TrainConfig> {
  const threads = flags.threads ?? config.engine.threads;
  const engine = await startEngine(
    { engine: flags.engine ?? config.engine.name, ...(threads === undefined ? {} : { threads }) },
    context,
  );
  return { ...config, engine: { name: engine.name, threads: engine.threads } };
}

/**
 * A run whose result is kept: trained in a folder of its own, which gets its name when it is whole. The name is the
 * hash of the configuration.
 */
async function planCachedRun(plan: TrainingPlan, { host }: CommandContext): Promise<TrainingPlan> {
  const { engine } = plan.config;
  const decisive = JSON.stringify({ ...plan.config, output: null, engine: engine.name });
  const key = createHash('sha256').update(decisive).digest('hex').slice(0, 16);
  const folder = join(cacheFolderOf(host.env), 'runs', `${plan.config.name}-${key}`);
  if ((await entriesOf(folder)).includes('model')) return { ...plan, finished: folder };
  const partial = `${folder}.partial`;
  const keep = async (): Promise<string> => {
    await rm(folder, { recursive: true, force: true });
    await rename(partial, folder);
    return folder;
  };
  // Stopped by Ctrl-C before: the same command goes on.
  const existing = (await entriesOf(partial)).includes('checkpoint') ? 'resume' : 'overwrite';
  return { ...plan, config: { ...plan.config, output: partial }, existing, keep };
}

async function entriesOf(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
