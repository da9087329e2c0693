/**
 * @file Which weights of a run are measured, kept and saved: those that are trained, their moving average, or the best
 * so far. The trained ones are never replaced, so that a run can always go on from its checkpoint.
 */
import type { DecoderModel } from '@moebius/model';

import { judgeEvaluation } from './early-stop.ts';
import type { EvaluateEvent } from './events.ts';
import type { WeightCopies } from './run-checkpoint.ts';
import type { RunProgress } from './run-plan.ts';
import type { Session } from './session.ts';
import { averageDecay, averageWeightsInto, copyWeights, copyWeightsInto } from './weight-copies.ts';

/** What evaluations in between look at: the average where there is one yet. */
export function measuredWeights(session: Session): {
  readonly model: DecoderModel;
  readonly name: 'trained' | 'average';
} {
  const { average, model, config, progress } = session;
  const averages = progress.step - (config.ema?.startStep ?? 0);
  const isAveraged = average !== null && averages > 0;
  return isAveraged ? { model: average, name: 'average' } : { model, name: 'trained' };
}

/** What a run gives: the best weights of an early stop, else what evaluations look at. */
export function resultWeights(session: Session): {
  readonly model: DecoderModel;
  readonly name: EvaluateEvent['weights'];
} {
  return session.best === null ? measuredWeights(session) : { model: session.best, name: 'best' };
}

/** Moves the average on, after a step that changed the weights. */
export function updateAverage(session: Session): void {
  const { average, model, progress, config } = session;
  if (average === null || config.ema === null) return;
  const updates = progress.step - config.ema.startStep;
  if (updates < 0) return;
  if (updates === 0) copyWeightsInto(average.parameters, model.parameters);
  else averageWeightsInto(average.parameters, model.parameters, averageDecay(config.ema.decay, updates));
}

/** Takes note of an evaluation in between; with early stopping the best weights are kept in memory. */
export function noteEvaluation(session: Session, { bitsPerByte, step }: EvaluateEvent): void {
  const { earlyStop } = session.config;
  session.progress = { ...session.progress, evaluatedStep: step };
  if (earlyStop === null) return;
  const { best, isBest } = judgeEvaluation(session.progress.best, { bitsPerByte, step }, earlyStop);
  session.progress = { ...session.progress, best };
  if (!isBest) return;
  const { parameters } = measuredWeights(session).model;
  if (session.best === null) session.best = session.wire(copyWeights(parameters));
  else copyWeightsInto(session.best.parameters, parameters);
}

/** The weights that a checkpoint holds beside the trained ones. */
export function savedCopies({ average, best }: Session): WeightCopies {
  return {
    ...(average === null ? {} : { average: average.parameters }),
    ...(best === null ? {} : { best: best.parameters }),
  };
}

/** The copies that a run with this progress has, made to be overwritten. */
export function openCopies(session: Session, { best }: RunProgress): WeightCopies {
  if (best !== null) session.best ??= session.wire(copyWeights(session.model.parameters));
  return savedCopies(session);
}

/** Frees all weights of a session. */
export function disposeWeights({ model, average, best }: Session): void {
  for (const owner of [model, average, best]) owner?.dispose();
}
