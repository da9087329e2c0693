/**
 * @file The plan of a run: how long it is, how far it has come, what memory it needs. Numbers only.
 */
import { countActiveParameters, countParameters, estimateFlops } from '@moebius/model';
import type { ModelConfig, PartsSource } from '@moebius/model';

import type { BestSoFar } from './early-stop.ts';
import { estimateMemory } from './memory-plan.ts';
import type { RunPosition } from './schedule.ts';
import type { TrainConfig } from './train-config.ts';

/** How long a run is, and what a step is. */
export interface RunPlan {
  /** Steps of the whole run; undefined when time decides. */
  readonly steps: number | undefined;
  /** Time of the whole run; undefined when steps decide. */
  readonly durationMs: number | undefined;
  /** Rows of one step: sequences times accumulation. */
  readonly rowsPerStep: number;
  readonly tokensPerStep: number;
  readonly parameters: number;
  readonly activeParameters: number;
  /** Bytes that a step is estimated to hold in tensors. */
  readonly estimatedBytes: number;
  /** Forward and backward of one step. */
  readonly flopsPerStep: number;
}

/** What a run has done. Saved with every checkpoint. */
export interface RunProgress {
  /** Steps done. */
  readonly step: number;
  /** Rows of the sampler consumed. */
  readonly rows: number;
  /** Targets trained on. */
  readonly tokens: number;
  /** Time since training began, over all sessions. */
  readonly elapsedMs: number;
  /** Steps left out because a number was not finite: in all, and in a row until now. */
  readonly skips: { readonly total: number; readonly inRow: number };
  /** Step of the last evaluation in between; 0 before the first. */
  readonly evaluatedStep: number;
  /** What early stopping has seen; null before its first evaluation. */
  readonly best: BestSoFar | null;
}

/** Where every run begins. */
export const freshProgress: RunProgress = {
  step: 0,
  rows: 0,
  tokens: 0,
  elapsedMs: 0,
  skips: { total: 0, inRow: 0 },
  evaluatedStep: 0,
  best: null,
};

/** Plans a run. */
export function planRun(config: TrainConfig, model: ModelConfig, parts: PartsSource = {}): RunPlan {
  const { duration, batch } = config;
  const { sequences, length, accumulation } = batch;
  const tokensPerStep = sequences * length * accumulation;
  const memory = estimateMemory(config, model, parts);
  let steps: number | undefined;
  if ('steps' in duration) steps = duration.steps;
  if ('tokens' in duration) steps = Math.ceil(duration.tokens / tokensPerStep);
  return {
    steps,
    durationMs: 'minutes' in duration ? duration.minutes * 60_000 : undefined,
    rowsPerStep: sequences * accumulation,
    tokensPerStep,
    parameters: countParameters(model, parts),
    activeParameters: countActiveParameters(model, parts),
    estimatedBytes: memory.step,
    flopsPerStep: estimateFlops(model, { batch: sequences * accumulation, sequence: length }, parts).train,
  };
}

/** Where a run is, for schedules: the share done by steps or by time. */
export function positionOf(plan: RunPlan, progress: Pick<RunProgress, 'step' | 'elapsedMs'>): RunPosition {
  const { step, elapsedMs } = progress;
  const fraction =
    plan.steps === undefined ? elapsedMs / Math.max(1, plan.durationMs ?? 1) : step / plan.steps;
  return { step, fraction: Math.min(1, fraction), steps: plan.steps };
}
