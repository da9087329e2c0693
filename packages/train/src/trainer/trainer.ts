/**
 * @file The trainer: a run as an async iterator of events. It draws nothing and prints nothing; whoever iterates
 * decides what to show, and stopping to iterate stops the run.
 */
import { MoebiusError } from '@moebius/core';
import type { DecoderModel } from '@moebius/model';

import type { Dataset } from '../data/dataset.ts';
import type { TrainEvent } from './events.ts';
import { prepareSession } from './session.ts';
import type { Session, TrainerOptions } from './session.ts';
import { disposeWeights, resultWeights } from './session-weights.ts';
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
   * @throws whatever stops it: `configuration`, `data`, `io`, `limit`, `numerics`, `checkpoint`, `plugin`
   */
  run(): AsyncGenerator<TrainEvent, void, void>;
  /**
   * The model, from the `start` event on; borrowed, valid until `dispose`. While the run goes on it is the one that is
   * trained; after the `end` event of a finished run it is the result: the average with `ema`, the best with `earlyStop`.
   */
  readonly model: DecoderModel;
  /** Tokenizer and shards, from the `start` event on. */
  readonly dataset: Dataset;
  /** Frees all weights. */
  dispose(): void;
}

/**
 * Makes a trainer. Nothing is read or made before `run`.
 *
 * @param config - a run configuration; checked here
 * @param options - clock, callbacks, signal, cache
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
export function createTrainer(config: TrainConfigInput, options: TrainerOptions): Trainer {
  const parsed = parseTrainConfig(config);
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
      session = yield* prepareSession(parsed, options);
      isOver = yield* trainLoop(session);
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
