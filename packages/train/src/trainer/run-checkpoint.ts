/**
 * @file Checkpoints of a run: parameters, moments and progress in one safetensors file that appears whole or not at
 * all, so that a run that was stopped goes on bit for bit. The data's order is a function of the seed and of the rows
 * consumed, and no other random number is drawn while training: progress is all there is to save beside the tensors.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { MoebiusError, parseConfig, runAsync, unitByteLength, z } from '@moebius/core';
import type { StateWriter } from '@moebius/core';
import { createStateFileWriter, openStateFile } from '@moebius/safetensors';
import type { RouterState } from '@moebius/model';
import { exportParameters, importParameters } from '@moebius/tensor';
import type { ParameterStore } from '@moebius/tensor';

import { exists } from '../data/publish.ts';
import { describeRoom, noRoomCode, noRoomError } from '../files/disk-space.ts';
import type { RunProgress } from './run-plan.ts';
import type { TrainConfig } from './train-config.ts';
import { exportCopy, importCopy } from './weight-copies.ts';

const progressSchema = z.strictObject({
  step: z.int().min(0),
  rows: z.int().min(0),
  tokens: z.int().min(0),
  elapsedMs: z.number().min(0),
  skips: z.strictObject({ total: z.int().min(0), inRow: z.int().min(0) }).default({ total: 0, inRow: 0 }),
  evaluatedStep: z.int().min(0).default(0),
  best: z
    .strictObject({
      bitsPerByte: z.number(),
      step: z.int().min(0),
      reference: z.number(),
      waited: z.int().min(0),
    })
    .nullable()
    .default(null),
});

/** Everything that decides the numbers of a run; a resumed run must agree in it. */
const decisiveKeys = [
  'schemaVersion',
  'model',
  'data',
  'tokenizer',
  'batch',
  'duration',
  'optimizer',
  'schedule',
  'losses',
  'seed',
  'plugins',
  'executor',
  'initFrom',
  'ema',
  'earlyStop',
  'router',
  'expertKind',
  'capacity',
] as const;

/**
 * Where a run keeps its checkpoint.
 *
 * @param output - folder of the run
 */
export function checkpointFile(output: string): string {
  return join(output, 'checkpoint', 'state.safetensors');
}

/** Other weights of a run, by name: borrowed. */
export type WeightCopies = { readonly [name: string]: ParameterStore };

/** What identifies a run beside its configuration: the same names can hold other text. */
export interface RunIdentity {
  readonly config: TrainConfig;
  readonly tokenizerHash: string;
  readonly trainingTokens: number;
}

/** Where a checkpoint is, and what it holds beside parameters. */
export interface CheckpointPlace {
  readonly output: string;
  /** What routers keep beside trained tensors. */
  readonly routers?: RouterState | undefined;
}

/**
 * Saves a run, replacing its last checkpoint.
 *
 * @param store - borrowed
 * @param identity - of the run, where to, and `copies`: other weights that belong to it, by name
 * @throws `io` when the disk fails, with what was needed and what there is when it is full: the last checkpoint stands
 */
export async function saveCheckpoint(
  store: ParameterStore,
  progress: RunProgress,
  identity: RunIdentity & CheckpointPlace & { readonly copies?: WeightCopies },
): Promise<void> {
  const file = checkpointFile(identity.output);
  const snapshot = store.capture(store.units(), { moments: true });
  const writer = countBytes(createStateFileWriter(file));
  try {
    await mkdir(dirname(file), { recursive: true });
    await runAsync(
      writer.begin({ progress: JSON.stringify(progress), identity: describeIdentity(identity) }),
    );
    await runAsync(exportParameters(snapshot, writer));
    for (const [name, copy] of Object.entries(identity.copies ?? {}))
      await runAsync(exportCopy(name, copy, writer));
    if (identity.routers !== undefined) await runAsync(identity.routers.exportTo(writer));
    await runAsync(writer.commit());
  } catch (error) {
    await runAsync(writer.abort());
    throw explainNoRoom(error, file, writer.bytes);
  } finally {
    snapshot.dispose();
  }
}

/** A writer that knows how many bytes it was given. */
function countBytes(writer: StateWriter): StateWriter & { readonly bytes: number } {
  let bytes = 0;
  return {
    ...writer,
    put(unit) {
      bytes += unitByteLength(unit);
      return writer.put(unit);
    },
    get bytes() {
      return bytes;
    },
  };
}

function explainNoRoom(error: unknown, file: string, neededBytes: number): unknown {
  const code = noRoomCode(error);
  if (code === undefined) return error;
  const folder = dirname(file);
  const fate = existsSync(file) ? 'the last checkpoint stands' : 'no checkpoint was saved before';
  return noRoomError(
    { subject: 'checkpoint', folder, fate },
    describeRoom(folder, { code, neededBytes }),
    error,
  );
}

/**
 * Loads a run's checkpoint into its parameters.
 *
 * @param store - overwritten
 * @param identity - of the run, where from, and `copies`: makes the copies that a run so far has; they are overwritten
 * @throws `checkpoint` when there is none, when it is damaged, or when it is of a run with another configuration
 */
export async function loadCheckpoint(
  store: ParameterStore,
  identity: RunIdentity &
    CheckpointPlace & {
      readonly copies?: (progress: RunProgress) => WeightCopies;
    },
): Promise<RunProgress> {
  const file = checkpointFile(identity.output);
  if (!(await exists(file))) {
    throw new MoebiusError({
      code: 'checkpoint',
      message: `resume: expected a checkpoint at ${file}, got none (start the run without resume)`,
      details: { file },
    });
  }
  const reader = openStateFile(file);
  try {
    const metadata = await runAsync(reader.metadata());
    assertSameRun(metadata['identity'] ?? '{}', describeIdentity(identity), file);
    const progress = parseConfig(
      progressSchema,
      JSON.parse(metadata['progress'] ?? 'null'),
      `${file}: progress`,
    );
    await runAsync(importParameters(store, reader));
    for (const [name, copy] of Object.entries(identity.copies?.(progress) ?? {}))
      await runAsync(importCopy(name, copy, reader));
    if (identity.routers !== undefined) await runAsync(identity.routers.importFrom(reader));
    return progress;
  } finally {
    reader.close();
  }
}

/** What decides the numbers of a run, as a checkpoint keeps it. */
export function describeIdentity({ config, tokenizerHash, trainingTokens }: RunIdentity): string {
  // What is null is left out, so that checkpoints stay valid when a setting is invented.
  const { train, evaluate } = config.capacity;
  const isCapped = train !== null || evaluate !== null;
  const decisive = decisiveKeys
    .filter((key) => key !== 'capacity' || isCapped)
    .map((key) => [key, config[key] ?? undefined] as const);
  return JSON.stringify({ ...Object.fromEntries(decisive), tokenizerHash, trainingTokens });
}

function assertSameRun(saved: string, wanted: string, file: string): void {
  const before = flatten(JSON.parse(saved));
  const now = flatten(JSON.parse(wanted));
  const keys = [...new Set([...Object.keys(before), ...Object.keys(now)])];
  const changed = keys.filter((key) => before[key] !== now[key]);
  if (changed.length === 0) return;
  const listed = changed.map((key) => `${key} was ${before[key] ?? 'absent'}, is ${now[key] ?? 'absent'}`);
  throw new MoebiusError({
    code: 'checkpoint',
    message: `resume: must be the run that ${file} was saved by, got other settings: ${listed.join('; ')} (restore them, or start a new run)`,
    details: { file, changed },
  });
}

/** The leaves of a JSON value by dotted path, as JSON. */
function flatten(value: unknown, path: string = ''): { [path: string]: string } {
  if (typeof value !== 'object' || value === null) return { [path]: JSON.stringify(value) };
  const inner = Object.entries(value).map(([key, part]) =>
    flatten(part, path === '' ? key : `${path}.${key}`),
  );
  return Object.assign({}, ...inner) as { [path: string]: string };
}
