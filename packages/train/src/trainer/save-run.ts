/**
 * @file What a run writes, and what happens when there is no room for it: a checkpoint on the way is tried again with
 * the next one, what comes last is waited for, and the numbers in memory stay as they are in each case.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { isMoebiusError } from '@moebius/core';
import { saveModel } from '@moebius/model';

import { describeRoom, noRoomCode, noRoomError } from '../files/disk-space.ts';
import { tokenizerFiles } from '../tokenizer/tokenizer-folder.ts';
import type { SaveEvent, TrainEvent } from './events.ts';
import { checkpointFile, saveCheckpoint } from './run-checkpoint.ts';
import type { Session } from './session.ts';
import { resultWeights, savedCopies } from './session-weights.ts';

/** Name of the model's folder in a run's output. */
export const modelFolderName = 'model';

/** How often a save that found no room is tried again, when it is the last one. */
const retryMs = 2_000;

/** Tells an event: to metrics, callbacks, and whoever iterates. */
export type Publish = (event: TrainEvent) => AsyncGenerator<TrainEvent, void, void>;

/** Writes the checkpoint of where a run is; nothing without an output folder. */
export async function writeCheckpoint(session: Session): Promise<void> {
  const { config, model, dataset, progress } = session;
  const { output } = config;
  if (output === null) return;
  await saveCheckpoint(model.parameters, progress, {
    config,
    output,
    tokenizerHash: dataset.tokenizer.hash,
    routers: model.routerState,
    trainingTokens: dataset.training.tokens.length,
    copies: savedCopies(session),
  });
  session.savedStep = progress.step;
}

/**
 * Saves a checkpoint and tells so.
 *
 * @param when - `between`: the run goes on, so a full disk is told and the next checkpoint is the next try; `last`:
 *   it is waited for
 */
export async function* saveProgress(
  session: Session,
  publish: Publish,
  when: 'between' | 'last',
): AsyncGenerator<TrainEvent, void, void> {
  const { output } = session.config;
  if (output === null) return;
  const folder = dirname(checkpointFile(output));
  yield* attempt(session, publish, {
    what: 'checkpoint',
    folder,
    when,
    write: () => writeCheckpoint(session),
  });
}

/** Saves the model folder and tells so; a full disk is waited for. */
export async function* saveFinalModel(
  session: Session,
  publish: Publish,
): AsyncGenerator<TrainEvent, void, void> {
  const { output } = session.config;
  if (output === null) return;
  const folder = join(output, modelFolderName);
  yield* attempt(session, publish, {
    what: 'model',
    folder,
    when: 'last',
    write: async () => writeModel(session, { output, folder }),
  });
}

function writeModel(
  session: Session,
  { output, folder }: { readonly output: string; readonly folder: string },
): void {
  const { dataset, plan } = session;
  try {
    saveModel(folder, resultWeights(session).model, { files: tokenizerFiles(dataset.tokenizer) });
  } catch (error) {
    const code = noRoomCode(error);
    if (code === undefined) throw error;
    const fate = existsSync(checkpointFile(output))
      ? 'the last checkpoint stands: go on with it'
      : 'no checkpoint was saved before';
    const room = describeRoom(folder, { code, neededBytes: 4 * plan.parameters });
    throw noRoomError({ subject: 'model', folder, fate }, room, error);
  }
}

interface Save {
  readonly what: SaveEvent['what'];
  readonly folder: string;
  readonly when: 'between' | 'last';
  write(): Promise<void>;
}

async function* attempt(
  { options, progress: { step } }: Session,
  publish: Publish,
  { what, folder, when, write }: Save,
): AsyncGenerator<TrainEvent, void, void> {
  const { clock, diskPatienceMs = 0 } = options;
  for (let left = when === 'last' ? diskPatienceMs : 0, isTold = false; ; left -= retryMs) {
    const begun = clock.nowMs();
    try {
      await write();
    } catch (error) {
      const isLast = when === 'last' && left <= 0;
      if (isLast || noRoomCode(error) === undefined || !isMoebiusError(error)) throw error;
      const { message } = error;
      const retry = when === 'last' ? 'soon' : 'with the next checkpoint';
      if (!isTold) yield* publish({ kind: 'save-failed', what, step, folder, message, retry });
      isTold = true;
      if (when === 'between') return;
      await sleep(retryMs);
      continue;
    }
    return yield* publish({ kind: 'save', what, step, folder, elapsedMs: clock.nowMs() - begun });
  }
}
