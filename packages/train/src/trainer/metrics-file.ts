/**
 * @file Metrics as JSON Lines: one record per event, names as in `@moebius/core`. Written as the run goes, so that a
 * plot can follow it.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { MetricRecord } from '@moebius/core';

import type { LayerLoad, TrainEvent } from './events.ts';
import { createLineWriter } from './metrics-writer.ts';
import type { RunProgress } from './run-plan.ts';

declare module '@moebius/core' {
  interface MetricMap {
    /** `train/loss` plus the weighted auxiliary losses. */
    'train/total_loss': number;
    /** Auxiliary losses by name, without coefficients. */
    'train/aux': { readonly [name: string]: number };
    /** Time since training began, over all sessions, up to the end of this step. */
    'train/elapsed_ms': number;
    /** The model's operations per second of the step: forward and backward, attention and head included. */
    'train/flops_per_second': number;
    /** Model FLOP utilisation: `train/flops_per_second` over the machine's measured matmul rate. */
    'train/mfu': number;
    /** Share of the run that is done. */
    'train/fraction': number;
    /** Steps left out so far because a number was not finite. */
    'train/skipped_steps': number;
    /** What was not finite in a step that was left out. */
    'train/skip_reason': string;
    /** Perplexity of the held-out tokens. */
    'eval/perplexity': number;
    /** Held-out tokens measured. */
    'eval/tokens': number;
    /** What simple methods reach on the same held-out text, bits per byte. */
    'eval/baselines': { readonly [name: string]: number };
    /** Use of the experts, by sparse layer. */
    'routing/layers': readonly LayerLoad[];
    /** Live tensors after a step. */
    'memory/tensors': number;
    /** Bytes of live tensors after a step. */
    'memory/tensor_bytes': number;
    /** Resident set of the process. */
    'memory/resident_bytes': number;
  }
}

/** A file that takes the metrics of a run. */
export interface MetricsFile {
  /**
   * Adds the record of an event; events without numbers are left out. What finds no room on the disk is kept and
   * written with the next one: metrics never end a run.
   */
  write(event: TrainEvent): Promise<void>;
}

/** Name of the metrics file in a run's output folder. */
export const metricsFileName = 'metrics.jsonl';

/**
 * Opens the metrics of a run.
 *
 * @param output - the run's folder; made when missing
 * @param from - where the run goes on: records of later steps, left by a session that stopped after its last checkpoint,
 *   are dropped, and of this step what the checkpoint does not know and is going to be told again
 */
export async function openMetricsFile(
  output: string,
  from: Pick<RunProgress, 'step' | 'evaluatedStep'>,
): Promise<MetricsFile> {
  const file = join(output, metricsFileName);
  await mkdir(output, { recursive: true });
  const kept = from.step === 0 ? [] : keepUntil(await readFile(file, 'utf8').catch(() => ''), from);
  await writeFile(`${file}.partial`, kept.map((line) => `${line}\n`).join(''));
  await rename(`${file}.partial`, file);
  const lines = await createLineWriter(file);
  return {
    async write(event) {
      const record = recordOf(event);
      if (record !== undefined) await lines.write(JSON.stringify(record));
    },
  };
}

/** The record of an event, if it has numbers. */
export function recordOf(event: TrainEvent): MetricRecord | undefined {
  switch (event.kind) {
    case 'step': {
      const { residentBytes } = event.memory;
      return {
        step: event.step,
        'train/loss': event.loss,
        'train/total_loss': event.totalLoss,
        'train/aux': event.aux,
        'train/learning_rate': event.learningRate,
        'train/gradient_norm': event.gradientNorm,
        'train/tokens': event.tokens,
        'train/fraction': event.fraction,
        'train/tokens_per_second': event.tokensPerSecond,
        'train/step_ms': event.stepMs,
        'train/elapsed_ms': event.elapsedMs,
        'train/flops_per_second': event.flopsPerSecond,
        ...(event.mfu === undefined ? {} : { 'train/mfu': event.mfu }),
        'routing/layers': event.routing,
        'memory/tensors': event.memory.tensors,
        'memory/tensor_bytes': event.memory.bytes,
        ...(residentBytes === undefined ? {} : { 'memory/resident_bytes': residentBytes }),
      };
    }
    case 'skip':
      return {
        step: event.step,
        'train/fraction': event.fraction,
        'train/skipped_steps': event.total,
        'train/skip_reason': event.reason,
      };
    case 'evaluate':
      return {
        step: event.step,
        'eval/loss': event.loss,
        'eval/perplexity': event.perplexity,
        'eval/bits_per_byte': event.bitsPerByte,
        'eval/tokens': event.evaluatedTokens,
      };
    case 'end':
      return event.baselines === undefined
        ? undefined
        : { step: event.step, 'eval/baselines': { ...event.baselines } };
    default:
      return undefined;
  }
}

/** Lines up to a checkpoint; a last line that was cut off in the middle is dropped. */
function keepUntil(
  text: string,
  { step: last, evaluatedStep }: Pick<RunProgress, 'step' | 'evaluatedStep'>,
): string[] {
  // At the last step: one evaluation in between, when it was before the checkpoint; those of the end come after it.
  let evaluations = evaluatedStep === last ? 1 : 0;
  return text.split('\n').filter((line) => {
    try {
      const record = JSON.parse(line) as MetricRecord;
      const { step = Infinity } = record;
      if (step !== last) return step < last;
      if ('eval/loss' in record) return (evaluations -= 1) >= 0;
      return !('eval/baselines' in record);
    } catch {
      return false;
    }
  });
}
