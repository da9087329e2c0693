/** @file `moebius experts edit` on a run that has a checkpoint: model folder, checkpoint and run.json of a new run. */
import { existsSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

import { checkpointFile, editRunExperts, modelFolderName } from '@moebius/train';
import type { RunModel, TrainConfig } from '@moebius/train';
import type { EditModelOptions } from '@moebius/model/surgery';

import type { CommandContext } from './host.ts';
import { readRunFile, writeRunFile } from './run-file.ts';

/** A run that can be resumed. */
export interface ResumableRun {
  /** Its folder. */
  readonly folder: string;
  /** Its configuration. */
  readonly config: TrainConfig;
  /** Its model folder; undefined for a run that has none yet. */
  readonly modelFolder: string | undefined;
}

/** The run in a folder, when it has a checkpoint. */
export async function findResumableRun(
  path: string,
  workingFolder: string,
): Promise<ResumableRun | undefined> {
  const folder = resolve(workingFolder, path);
  if (!existsSync(checkpointFile(folder))) return undefined;
  const config = await readRunFile(folder);
  if (config === undefined) return undefined;
  const modelFolder = join(folder, modelFolderName);
  return {
    folder,
    config,
    modelFolder: existsSync(join(modelFolder, 'config.json')) ? modelFolder : undefined,
  };
}

/** Writes checkpoint and run.json of the edited run; the configuration comes last, so that half of it is no run. */
export async function editRunFolder(
  { folder, config }: ResumableRun,
  {
    target,
    model,
    edit,
    steps,
  }: {
    readonly target: string;
    readonly model: RunModel;
    readonly edit: EditModelOptions;
    /** New length. */
    readonly steps: number | undefined;
  },
  { host, terminal }: CommandContext,
): Promise<void> {
  const edited = await editRunExperts({
    from: folder,
    to: target,
    config,
    model,
    edit,
    ...(steps === undefined ? {} : { duration: { steps } }),
  });
  await writeRunFile(edited.config, target);
  const { before, after } = edited.stateful;
  terminal.json({ event: 'run', folder: target, stateful: edited.stateful });
  terminal.line(
    `checkpoint  optimizer state of ${after} parameters, ${before} before; go on: moebius train --resume ${relative(host.workingFolder, target)}`,
  );
}
