/**
 * @file A callback that writes TensorBoard's event files, on every engine: no TensorFlow is needed for them.
 *
 * Each session of a run writes a file of its own, so that nothing is ever appended to a record that a killed process
 * left half written. It begins with a session start at its first step, at which TensorBoard drops what an earlier
 * session wrote for that step and later ones. Every event is handed to the system at once: a killed process loses nothing
 * that was told.
 */
import { appendFile, mkdir, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { MoebiusError } from '@moebius/core';

import { defineCallback } from '../trainer/callback.ts';
import type { Callback } from '../trainer/callback.ts';
import type { StartEvent, TrainEvent } from '../trainer/events.ts';
import { recordOf } from '../trainer/metrics-file.ts';
import type { TrainConfig } from '../trainer/train-config.ts';
import { encodeEvent } from './event.ts';
import type { EventContent, SummaryValue } from './event.ts';
import { encodeRecord } from './record.ts';
import { summaryValues } from './summary-values.ts';

/** How event files are written. */
export interface TensorBoardOptions {
  /** Where to; made when missing. `tensorboard --logdir` is given this folder or one above it. */
  readonly folder: string;
  /** Milliseconds since 1970: `() => Date.now()`. */
  readonly wallTimeMs: () => number;
  /** Steps between histograms of the experts' loads; scalars are written at every step. Default 10. */
  readonly histogramEverySteps?: number;
  /** Removes the event files of an earlier run in the folder first. Default false. */
  readonly overwrite?: boolean;
}

const prefix = 'events.out.tfevents.';

/**
 * Makes the callback. `tensorboard` in a run configuration makes one by itself.
 *
 * @example
 * ```ts
 * const tensorboard = createTensorBoardCallback({ folder: 'runs/mine/tensorboard', wallTimeMs: () => Date.now() });
 * const trainer = createTrainer(
 *   { model: 'configs/small', duration: { steps: 100 } },
 *   { clock: { nowMs: () => performance.now() }, callbacks: [tensorboard] },
 * );
 * ```
 */
export function createTensorBoardCallback(options: TensorBoardOptions): Callback {
  const { histogramEverySteps = 10 } = options;
  let file = '';
  const show = async (event: TrainEvent): Promise<void> => {
    const record = recordOf(event);
    if (record === undefined) return;
    const histograms = event.kind === 'step' && event.step % histogramEverySteps === 0;
    await append(file, options, [[record.step, summary(summaryValues(record, { histograms }))]]);
  };
  return defineCallback({
    name: 'tensorboard',
    async onStart(event, { config }) {
      file = await createFile(options);
      await append(file, options, describeStart(event, config));
    },
    onStep: show,
    onSkip: show,
    onEvaluate: show,
    onEnd: show,
  });
}

type StepContent = readonly [step: number, content: EventContent];

/** The version, from where this session counts, and at the very start what is trained. */
function describeStart({ step, ...sizes }: StartEvent, config: TrainConfig): StepContent[] {
  const begin: StepContent[] = [
    [0, { kind: 'version' }],
    [step === 0 ? 0 : step + 1, { kind: 'session-start' }],
  ];
  if (step > 0) return begin;
  const { kind: _kind, ...numbers } = sizes;
  const values: SummaryValue[] = [
    { tag: 'config/text_summary', kind: 'text', text: codeBlock(config) },
    { tag: 'sizes/text_summary', kind: 'text', text: codeBlock(numbers) },
  ];
  return [...begin, [0, summary(values)]];
}

function summary(values: readonly SummaryValue[]): EventContent {
  return { kind: 'summary', values };
}

/** TensorBoard shows text as Markdown: four spaces are code. */
function codeBlock(value: object): string {
  return JSON.stringify(value, undefined, 2).replaceAll(/^/gm, '    ');
}

/** A name that no other session has, and that sorts behind those of earlier ones. */
async function createFile({ folder, wallTimeMs, overwrite = false }: TensorBoardOptions): Promise<string> {
  return asIo(folder, async () => {
    await mkdir(folder, { recursive: true });
    const before = (await readdir(folder)).filter((name) => name.startsWith(prefix));
    if (overwrite) await Promise.all(before.map((name) => rm(join(folder, name))));
    const used = overwrite ? [] : before.map((name) => Number(name.slice(prefix.length).split('.')[0]));
    const newest = Math.max(0, ...used.filter(Number.isSafeInteger));
    const seconds = Math.max(Math.floor(wallTimeMs() / 1000), used.length === 0 ? 0 : newest + 1);
    return join(folder, `${prefix}${String(seconds).padStart(10, '0')}.${hostname()}.moebius`);
  });
}

async function append(
  file: string,
  { folder, wallTimeMs }: TensorBoardOptions,
  contents: readonly StepContent[],
): Promise<void> {
  const wallTime = wallTimeMs() / 1000;
  const records = contents.map(([step, content]) => encodeRecord(encodeEvent({ wallTime, step }, content)));
  await asIo(folder, () => appendFile(file, Buffer.concat(records)));
}

async function asIo<T>(folder: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MoebiusError({
      code: 'io',
      message: `tensorboard: must be able to write ${folder}, got ${reason} (free space, or name another folder)`,
      details: { folder, reason },
      cause,
    });
  }
}
