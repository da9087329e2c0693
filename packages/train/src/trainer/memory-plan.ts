/**
 * @file What memory a run needs, estimated before anything is made, and what would fit.
 *
 * ```
 *   process: Node, TensorFlow, text  +  the larger of   step: weights, moments, gradients, activations, logits, copies
 *                                                       save: weights, moments, copies, and all of them on the host
 * ```
 */
import { totalmem } from 'node:os';

import { MoebiusError } from '@moebius/core';
import { describeParameters, estimateBytes } from '@moebius/model';
import type { ModelConfig, PartsSource } from '@moebius/model';

import { optimizerBytes } from './optimizer-settings.ts';
import type { TrainConfig } from './train-config.ts';

/** Memory of a run in bytes. */
export interface MemoryEstimate {
  /** Tensors that are alive in a step. */
  readonly step: number;
  /** Tensors that are alive while a checkpoint is written, and its bytes on the host; 0 without an output folder. */
  readonly save: number;
  /** What does not depend on the batch: weights, moments, gradients and copies. */
  readonly state: number;
}

/**
 * What a process holds beside its tensors at least: Node, TensorFlow, and the allocator's free lists. Measured by the
 * memory benchmark: a peak of 1,159 MiB where the tensors are estimated at 483 MiB.
 */
export const processBytes: number = 676 * 2 ** 20;

/** Estimates the memory of a run, the process left out. */
export function estimateMemory(
  config: TrainConfig,
  model: ModelConfig,
  parts: PartsSource = {},
): MemoryEstimate {
  const { batch, ema, earlyStop, output } = config;
  const bytes = estimateBytes(model, { batch: batch.sequences, sequence: batch.length }, parts);
  const copies = (ema === null ? 0 : bytes.parameters) + (earlyStop === null ? 0 : bytes.parameters);
  const sums = batch.accumulation > 1 ? bytes.gradients : 0;
  const moments = optimizerBytes(config.optimizer, describeParameters(model, parts));
  const kept = bytes.parameters + moments + copies;
  return {
    step: bytes.train - bytes.optimizer + moments + sums + copies,
    save: output === null ? 0 : 2 * kept,
    state: Math.max(kept + bytes.gradients + sums, output === null ? 0 : 2 * kept),
  };
}

/** Where a run has to fit. */
export interface MemoryLimits {
  /** Memory there is; default the machine's, or what the container may use where that is less. */
  readonly limitBytes?: number | undefined;
  /** What the process holds beside its tensors; at least {@link processBytes} is counted. */
  readonly usedBytes?: number | undefined;
  /** Routers and kinds of experts, when they are not the family's own. */
  readonly parts?: PartsSource;
}

/**
 * Refuses a run that cannot fit.
 *
 * @throws `limit` saying how much is needed and the largest batch, or the longest sequence, that would fit
 */
export function assertFits(config: TrainConfig, model: ModelConfig, limits: MemoryLimits = {}): void {
  const { limitBytes = machineBytes() } = limits;
  const usedBytes = Math.max(processBytes, limits.usedBytes ?? 0);
  const needed = (sequences: number, length: number): number => {
    const { step, save } = estimateMemory(
      { ...config, batch: { ...config.batch, sequences, length } },
      model,
      limits.parts,
    );
    return usedBytes + Math.max(step, save);
  };
  const { sequences, length } = config.batch;
  const neededBytes = needed(sequences, length);
  if (neededBytes <= limitBytes) return;
  const fittingSequences = largestFitting(sequences, (count) => needed(count, length) <= limitBytes);
  const fittingLength =
    fittingSequences > 0 ? length : largestFitting(length, (tokens) => needed(1, tokens) <= limitBytes);
  const { state } = estimateMemory(config, model, limits.parts);
  throw new MoebiusError({
    code: 'limit',
    message: `memory: a run must fit in ${mebibytes(limitBytes)} MiB, got an estimate of ${mebibytes(neededBytes)} MiB, ${mebibytes(usedBytes)} of them for the process (${remedyOf({ fittingSequences, fittingLength, length, state })})`,
    details: { limitBytes, neededBytes, usedBytes, sequences, length, fittingSequences, fittingLength },
  });
}

function remedyOf(found: {
  readonly fittingSequences: number;
  readonly fittingLength: number;
  readonly length: number;
  readonly state: number;
}): string {
  const { fittingSequences, fittingLength, length, state } = found;
  if (fittingSequences > 0)
    return `batch.sequences ${fittingSequences} of ${length} tokens would fit; raise batch.accumulation to keep the step's size`;
  if (fittingLength >= 2) return `batch.sequences 1 with batch.length ${fittingLength} would fit`;
  return `no batch fits: weights, moments, gradients and copies alone need ${mebibytes(state)} MiB; make the model smaller`;
}

/** The largest number from 1 to `most` that fits, 0 for none; what fits stays so for less. */
function largestFitting(most: number, fits: (count: number) => boolean): number {
  let [low, high] = [0, most];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Memory of the machine, or of the container around the process. */
function machineBytes(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(totalmem(), constrained) : totalmem();
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}
