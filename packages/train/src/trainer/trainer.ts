/**
 * @file The trainer: a run as an async iterator of events. It draws nothing and prints nothing; whoever iterates
 * decides what to show, and stopping to iterate stops the run.
 */
import { MoebiusError } from '@moebius/core';
import type { DecoderModel } from '@moebius/model';

import type { Dataset } from '../data/dataset.ts';
import type { TrainEvent } from './events.ts';
import { lockRun } from './run-lock.ts';
import type { RunLock } from './run-lock.ts';
import { writeCheckpoint } from './save-run.ts';
import { prepareSession } from './session.ts';
import type { Session, TrainerOptions } from './session.ts';
import { disposeWeights, resultWeights } from './session-weights.ts';
import { createSteadyClock, largestLeapMs } from './steady-clock.ts';
import { parseTrainConfig } from './train-config.ts';
import type { TrainConfig, TrainConfigInput } from './train-config.ts';
import { trainLoop } from './train-loop.ts';

/** A run. */
export interface Trainer {
  /** The checked configuration, defaults filled. */
  readonly config: TrainConfig;
  /**
   * Runs it: prepares, trains, evaluates, saves. Once per trainer. The event loop gets a turn after each step.
   *
   * @throws whatever stops it: `configuration`, `data`, `io` (a disk that is full, a folder in use), `limit`, `numerics`, `checkpoint`, `plugin`
   */
  run(): AsyncGenerator<TrainEvent, void, void>;
  /**
   * The model, from the `start` event on; borrowed, valid until `dispose`. While the run goes on it is the one that is
   * trained; after the `end` event of a finished run it is the result: the average with `ema`, the best with `earlyStop`.
   */
  readonly model: DecoderModel;
  /** Tokenizer and shards, from the `start` event on. */
  readonly dataset: Dataset;
  /**
   * Writes a checkpoint of where the run is, for example after `run` threw because the disk was full: `existing:
   * 'resume'` goes on from there. From the `start` event on, between two events or after the last one; nothing
   * without an output folder.
   *
   * @throws `io` when it cannot be written, or another process has the folder by now
   */
  save(): Promise<void>;
  /** Frees all weights. */
  dispose(): void;
}

/**
 * Makes a trainer. Nothing is read or made before `run`.
 *
 * @param config - a run configuration; checked here
 * @param given - clock, callbacks, signal, cache
 * @throws `configuration` with every fault of the configuration
 * @example
 * ```ts
 * const trainer = createTrainer(
 *   { model: 'configs/small', duration: { steps: 100 } },
 *   { clock: { nowMs: () => performance.now() } },
 * );
 * for await (const event of trainer.run()) {
 *   if (event.kind === 'step') console.log(event.step, event.loss);
 * }
 * trainer.dispose();
 * ```
 */
export function createTrainer(config: TrainConfigInput, given: TrainerOptions): Trainer {
  const parsed = parseTrainConfig(config);
  const options = { ...given, clock: createSteadyClock(given.clock, largestLeapMs(parsed)) };
  let lock: RunLock | undefined;
  let session: Session | undefined;
  let hasRun = false;
  let isOver = false;
  const opened = (): Session => {
    if (session !== undefined) return session;
    throw new MoebiusError({
      code: 'ownership',
      message:
        'trainer: must have begun to train before its model is used, got none yet (iterate run() to its start event)',
    });
  };
  return {
    config: parsed,
    async *run() {
      if (hasRun) {
        throw new MoebiusError({
          code: 'ownership',
          message: 'trainer: must run once, got a second run (create another trainer)',
        });
      }
      hasRun = true;
      lock = lockOutput(parsed, options);
      try {
        session = yield* prepareSession(parsed, options);
        isOver = yield* trainLoop(session);
      } finally {
        lock?.release();
        lock = undefined;
      }
    },
    async save() {
      const running = opened();
      const own = lock === undefined ? lockOutput(parsed, options) : undefined;
      try {
        await writeCheckpoint(running);
      } finally {
        own?.release();
      }
    },
    get model() {
      return isOver ? resultWeights(opened()).model : opened().model;
    },
    get dataset() {
      return opened().dataset;
    },
    dispose() {
      if (session !== undefined) disposeWeights(session);
      session = undefined;
    },
  };
}

/** Nobody else writes there while a run does. */
function lockOutput({ output }: TrainConfig, { command, onMessage }: TrainerOptions): RunLock | undefined {
  return output === null
    ? undefined
    : lockRun(output, { command: command ?? 'a program with @moebius/train', onMessage });
}
