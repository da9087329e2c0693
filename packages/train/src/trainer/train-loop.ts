/**
 * @file The loop of a run: steps, evaluations, checkpoints, until it is done or asked to stop.
 */
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { createRng, isMoebiusError, MoebiusError } from '@moebius/core';
import { causalityWarning } from '@moebius/routing';
import { removeLeftovers } from '@moebius/safetensors';
import { memory } from '@moebius/tensor';

import { computeBaselines, kneserNeyBits } from '../evaluation/baselines.ts';
import { createBigramCounts } from '../evaluation/bigram-counts.ts';
import { evaluate } from '../evaluation/evaluate.ts';
import { notifyCallbacks } from './callback.ts';
import { isOutOfPatience } from './early-stop.ts';
import type { EndEvent, EvaluateEvent, SkipEvent, StartEvent, StepEvent, TrainEvent } from './events.ts';
import { describeLoad } from './layer-load.ts';
import { openMetricsFile } from './metrics-file.ts';
import type { MetricsFile } from './metrics-file.ts';
import { optimizerSettings } from './optimizer-settings.ts';
import { checkpointFile } from './run-checkpoint.ts';
import { positionOf } from './run-plan.ts';
import { modelFolderName, saveFinalModel, saveProgress } from './save-run.ts';
import { scheduleFactor } from './schedule.ts';
import type { Session } from './session.ts';
import { measuredWeights, noteEvaluation, resultWeights, updateAverage } from './session-weights.ts';
import { runTrainStep } from './train-step.ts';

/**
 * Runs a session to its end. The session's progress is kept up to date; its models stay with the caller.
 *
 * @returns whether it is over, and not just stopped
 */
export async function* trainLoop(session: Session): AsyncGenerator<TrainEvent, boolean, void> {
  const loop = await openLoop(session);
  const publish = (event: TrainEvent): AsyncGenerator<TrainEvent, void, void> => loop.publish(event);
  yield* publish(startEvent(session));
  // A session that was stopped before or during an evaluation owes it to the next one.
  if (!isAborted(session)) yield* measureWhenDue(session, loop);
  while (!isDone(session) && !isAborted(session)) {
    const step = await takeStep(session, loop);
    yield* publish(step);
    if (!isAborted(session)) yield* measureWhenDue(session, loop);
    if (isSaveDue(session)) yield* saveProgress(session, publish, 'between');
    await nextTurn();
  }
  if (isAborted(session)) return yield* stop(session, loop);
  return yield* finish(session, loop);
}

/** The evaluation in between that this step asks for, if any: early stopping also judges the last step. */
async function* measureWhenDue(session: Session, loop: Loop): AsyncGenerator<TrainEvent, void, void> {
  const { config, progress } = session;
  const { everySteps, tokens } = config.evaluation;
  const { step, evaluatedStep } = progress;
  if (step === 0 || step === evaluatedStep || everySteps === null) return;
  const isDue = isDone(session) ? config.earlyStop !== null : step % everySteps === 0;
  if (!isDue) return;
  const measured = await measureUnlessAborted(session, measuredWeights(session), tokens);
  if (measured === undefined) return;
  noteEvaluation(session, measured);
  yield* loop.publish(measured);
}

/** What the loop keeps open. */
interface Loop {
  /** Writes, tells callbacks, then yields. */
  publish(event: TrainEvent): AsyncGenerator<TrainEvent, void, void>;
  /** Time since training began, over all sessions. */
  elapsedMs(): number;
  /** Where the session started, for its pace. */
  readonly start: { readonly step: number; readonly elapsedMs: number };
}

async function openLoop(session: Session): Promise<Loop> {
  const { config, options, callbacks, model, progress, dataset } = session;
  const { output } = config;
  let metrics: MetricsFile | undefined;
  if (output !== null) {
    if (options.existing === 'overwrite') {
      await rm(dirname(checkpointFile(output)), { recursive: true, force: true });
      await rm(join(output, modelFolderName), { recursive: true, force: true });
    }
    removeLeftovers(dirname(checkpointFile(output)));
    metrics = await openMetricsFile(output, progress);
  }
  const context = { config, model, tokenizer: dataset.tokenizer };
  const since = options.clock.nowMs() - progress.elapsedMs;
  return {
    async *publish(event) {
      await metrics?.write(event);
      await notifyCallbacks(callbacks, event, context);
      yield event;
    },
    elapsedMs: () => options.clock.nowMs() - since,
    start: { step: progress.step, elapsedMs: progress.elapsedMs },
  };
}

function startEvent({ plan, progress, dataset, options, routers }: Session): StartEvent {
  const { steps, tokensPerStep, parameters, activeParameters, estimatedBytes, flopsPerStep } = plan;
  const { matmulFlopsPerSecond } = options;
  const warning = causalityWarning(routers);
  return {
    kind: 'start',
    step: progress.step,
    steps,
    tokensPerStep,
    parameters,
    activeParameters,
    estimatedBytes,
    flopsPerStep,
    trainingTokens: dataset.training.tokens.length,
    heldOutTokens: dataset.heldOut.tokens.length,
    ...(matmulFlopsPerSecond === undefined ? {} : { matmulFlopsPerSecond }),
    ...(warning === null ? {} : { warnings: [warning] }),
  };
}

function isDone({ plan, progress, config }: Session): boolean {
  if (isOutOfPatience(progress.best, config.earlyStop)) return true;
  return plan.steps === undefined
    ? progress.elapsedMs >= (plan.durationMs ?? 0)
    : progress.step >= plan.steps;
}

/** A checkpoint is due; not while steps are left out, for the weights may be what is broken: the last good one stands. */
function isSaveDue(session: Session): boolean {
  const { step, skips } = session.progress;
  const { everySteps } = session.config.checkpoint;
  return everySteps !== null && step % everySteps === 0 && skips.inRow === 0 && !isDone(session);
}

function isAborted({ options }: Session): boolean {
  return options.signal?.aborted === true;
}

/** One optimizer step, and what it did; or that it was left out. */
async function takeStep(session: Session, loop: Loop): Promise<StepEvent | SkipEvent> {
  const { config, model, plan, options, progress } = session;
  const position = positionOf(plan, progress);
  const learningRate = config.optimizer.learningRate * scheduleFactor(config.schedule, position);
  const begun = options.clock.nowMs();
  const { sequences, accumulation } = config.batch;
  const batches = Array.from({ length: accumulation }, (_, micro) =>
    session.sampler.rows(progress.rows + micro * sequences, sequences),
  );
  const outcome = attemptStep(session, () =>
    runTrainStep(model, {
      step: progress.step + 1,
      rng: createRng([config.seed]).fork('routers'),
      batches,
      balance: session.balance,
      balanceOver: config.losses.over,
      zLossCoefficient: config.losses.logitZ,
      optimizer: optimizerSettings(config.optimizer, learningRate, session.optimizer),
      treatments: session.treatments,
      clipNorm: config.optimizer.clipNorm,
    }),
  );
  const isSkipped = isMoebiusError(outcome);
  const { total, inRow } = progress.skips;
  session.progress = {
    ...progress,
    step: progress.step + 1,
    rows: progress.rows + plan.rowsPerStep,
    tokens: progress.tokens + (isSkipped ? 0 : outcome.tokens),
    elapsedMs: loop.elapsedMs(),
    skips: isSkipped ? { total: total + 1, inRow: inRow + 1 } : { total, inRow: 0 },
  };
  if (isSkipped) return skipEvent(session, outcome, options.clock.nowMs() - begun);
  updateAverage(session);
  const stepMs = options.clock.nowMs() - begun;
  const { numTensors: tensors, numBytes: bytes } = memory();
  const residentBytes = options.residentBytes?.();
  return {
    kind: 'step',
    step: session.progress.step,
    fraction: positionOf(plan, session.progress).fraction,
    tokens: session.progress.tokens,
    loss: outcome.loss,
    totalLoss: outcome.totalLoss,
    aux: outcome.aux,
    learningRate,
    gradientNorm: outcome.gradientNorm,
    stepMs,
    elapsedMs: session.progress.elapsedMs,
    tokensPerSecond: (1000 * outcome.tokens) / stepMs,
    ...arithmeticRate(session, stepMs),
    remainingMs: remainingMs(session, loop),
    routing: outcome.loads.map(({ layer, load }) => describeLoad(layer, load)),
    memory: { tensors, bytes, ...(residentBytes === undefined ? {} : { residentBytes }) },
  };
}

/** How fast the model's own operations were, and which share of the machine's matmul rate that is. */
function arithmeticRate(
  { plan, options }: Session,
  stepMs: number,
): Pick<StepEvent, 'flopsPerSecond' | 'mfu'> {
  const flopsPerSecond = (1000 * plan.flopsPerStep) / stepMs;
  const limit = options.matmulFlopsPerSecond;
  return limit === undefined ? { flopsPerSecond } : { flopsPerSecond, mfu: flopsPerSecond / limit };
}

function remainingMs({ plan, progress }: Session, { start }: Loop): number {
  if (plan.steps === undefined) return Math.max(0, (plan.durationMs ?? 0) - progress.elapsedMs);
  const pace = (progress.elapsedMs - start.elapsedMs) / Math.max(1, progress.step - start.step);
  return pace * (plan.steps - progress.step);
}

/** Takes a step; a numerical failure is given back when the run leaves such steps out, else thrown. */
function attemptStep<T>(session: Session, action: () => T): T | MoebiusError {
  try {
    return action();
  } catch (error) {
    if (!isMoebiusError(error, 'numerics')) throw error;
    const { numerics, output } = session.config;
    const { inRow } = session.progress.skips;
    if (numerics.onNonFinite === 'skip' && inRow < numerics.maximumSkips) return error;
    const kept =
      output !== null && session.savedStep !== null
        ? `the last checkpoint is ${checkpointFile(output)} (step ${session.savedStep})`
        : 'no checkpoint was saved';
    const givenUp = `numerics: must recover within ${numerics.maximumSkips} skipped steps, got one more in a row; `;
    throw new MoebiusError({
      code: 'numerics',
      message: `${numerics.onNonFinite === 'skip' ? givenUp : ''}${error.message}; ${kept}`,
      details: { ...error.details, skippedInRow: inRow, savedStep: session.savedStep },
      cause: error,
    });
  }
}

function skipEvent({ plan, progress }: Session, error: MoebiusError, stepMs: number): SkipEvent {
  const { layer, parameter } = error.details as Pick<SkipEvent, 'layer' | 'parameter'>;
  return {
    kind: 'skip',
    step: progress.step,
    fraction: positionOf(plan, progress).fraction,
    reason: error.message,
    layer,
    parameter,
    ...progress.skips,
    stepMs,
  };
}

/** {@link measure}, or undefined when the run was asked to stop meanwhile: what it has must still be saved. */
async function measureUnlessAborted(
  session: Session,
  weights: ReturnType<typeof resultWeights>,
  tokens: number | undefined,
): Promise<EvaluateEvent | undefined> {
  try {
    return await measure(session, weights, tokens);
  } catch (error) {
    if (isMoebiusError(error, 'aborted')) return undefined;
    throw error;
  }
}

/** Measures held-out text: about `tokens` of it, or all. */
async function measure(
  { config, options, progress, dataset }: Session,
  weights: ReturnType<typeof resultWeights>,
  tokens: number | undefined,
): Promise<EvaluateEvent> {
  const begun = options.clock.nowMs();
  const result = await evaluate(weights.model, dataset.heldOut, {
    skipPadding: config.capacity.evaluate !== null,
    length: config.batch.length,
    sequences: config.batch.sequences,
    signal: options.signal,
    ...(tokens === undefined ? {} : { maximumTokens: tokens }),
  });
  return {
    kind: 'evaluate',
    step: progress.step,
    seenTokens: progress.tokens,
    weights: weights.name,
    isWhole: result.evaluatedTokens === dataset.heldOut.tokens.length - dataset.heldOut.bytes.length,
    elapsedMs: options.clock.nowMs() - begun,
    ...result,
  };
}

/** Ends a run that was asked to stop: what it has is saved. */
async function* stop(session: Session, loop: Loop): AsyncGenerator<TrainEvent, false, void> {
  yield* saveProgress(session, loop.publish, 'last');
  const { step, tokens, elapsedMs, skips } = session.progress;
  const skippedSteps = skips.total;
  yield* loop.publish({ kind: 'end', reason: 'aborted', step, tokens, elapsedMs, skippedSteps });
  return false;
}

/** Ends a run that is done: all held-out text is measured, the model saved, the baselines computed. */
async function* finish(session: Session, loop: Loop): AsyncGenerator<TrainEvent, boolean, void> {
  const { config, progress } = session;
  const result = resultWeights(session);
  if (config.checkpoint.everySteps !== null) yield* saveProgress(session, loop.publish, 'last');
  yield* saveFinalModel(session, loop.publish);
  const evaluation = await measureUnlessAborted(session, result, config.evaluation.finalTokens ?? undefined);
  // The baselines block for seconds: who wants to stop gets them when the run is resumed.
  if (evaluation === undefined || isAborted(session)) return yield* stop(session, loop);
  yield* loop.publish(evaluation);
  const { loss, perplexity, bitsPerByte, evaluatedTokens, evaluatedBytes, documents } = evaluation;
  const { step, tokens, best, skips } = progress;
  const end: EndEvent = {
    kind: 'end',
    reason: isOutOfPatience(best, config.earlyStop) ? 'early-stop' : 'finished',
    step,
    tokens,
    ...(best === null ? {} : { bestStep: best.step }),
    skippedSteps: skips.total,
    elapsedMs: loop.elapsedMs(),
    evaluation: { loss, perplexity, bitsPerByte, evaluatedTokens, evaluatedBytes, documents },
    baselines: measureBaselines(session),
  };
  yield* loop.publish(end);
  return true;
}

/** Baselines on the run's held-out text, one of them trained on exactly what the model has seen (once). */
function measureBaselines({ dataset, sampler, progress, plan }: Session): NonNullable<EndEvent['baselines']> {
  const seen = createBigramCounts(dataset.training.vocabularySize);
  const rows = Math.min(progress.rows, sampler.rowsPerEpoch);
  for (let row = 0; row < rows; row += plan.rowsPerStep) {
    const { ids, targets } = sampler.rows(row, Math.min(plan.rowsPerStep, rows - row));
    seen.add(ids, targets);
  }
  return { ...computeBaselines(dataset), tokenBigramSeen: kneserNeyBits(seen, dataset.heldOut) };
}
