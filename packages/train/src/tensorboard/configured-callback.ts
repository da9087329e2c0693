/** @file The callback that a run configuration asks for with `tensorboard`. */
import { join } from 'node:path';

import { MoebiusError } from '@moebius/core';

import type { Callback } from '../trainer/callback.ts';
import type { TrainerOptions } from '../trainer/session.ts';
import type { TrainConfig } from '../trainer/train-config.ts';
import { createTensorBoardCallback } from './tensorboard-callback.ts';

/** Name of the folder in a run's output. */
const folderName = 'tensorboard';

/**
 * The callback as a list: empty when it is not asked for. Files in the output folder are the run's own and go with
 * it; a folder named by somebody may hold other runs, and keeps its files.
 *
 * @throws `configuration` when there is no folder for it
 */
export function tensorBoardOf(config: TrainConfig, options: TrainerOptions): Callback[] {
  const { tensorboard, output } = config;
  if (tensorboard === false) return [];
  const wallTimeMs = options.wallTimeMs ?? ((): number => options.clock.nowMs());
  if (typeof tensorboard === 'string')
    return [createTensorBoardCallback({ folder: tensorboard, wallTimeMs })];
  if (output === null) {
    throw new MoebiusError({
      code: 'configuration',
      message:
        'tensorboard: must be a folder when the run has no output, got true (name a folder, or give the run an output)',
      details: { tensorboard },
    });
  }
  const overwrite = options.existing === 'overwrite';
  return [createTensorBoardCallback({ folder: join(output, folderName), wallTimeMs, overwrite })];
}
