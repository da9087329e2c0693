/** @file `moebius data`: text made ready to train on, and what is in it. */
import type { MoebiusError } from '@moebius/core';
import {
  describeDataset,
  prepareDatasetInStages,
  prepareSplitInStages,
  readTextSource,
  splitDocuments,
} from '@moebius/train';
import type { Dataset, DatasetReport, DatasetStage, DocumentSplit, TrainConfig } from '@moebius/train';

import { formatDataset, warningsOf } from '../dataset-listing.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { makeRunConfig } from '../run-config.ts';
import type { RunFlags } from '../run-config.ts';
import { cacheFolderOf } from '../start-engine.ts';
import { formatCount, formatDuration } from '../terminal/format.ts';

/** Flags. */
export type DataFlags = Pick<
  RunFlags,
  'recipe' | 'config' | 'data' | 'valData' | 'field' | 'tokenizer' | 'set'
>;

/** Makes tokenizer and shards. */
export async function prepare(flags: DataFlags, context: CommandContext): Promise<number> {
  const { host, terminal } = context;
  const config = await configOf(flags, context);
  const cacheFolder = cacheFolderOf(host.env);
  const began = host.nowMs();
  const stages = prepareDatasetInStages({ ...config.data, tokenizer: config.tokenizer, cacheFolder });
  const dataset = await tellStages(stages, context);
  const seconds = (host.nowMs() - began) / 1000;
  const trainingTokens = dataset.training.tokens.length;
  const { vocabularySize } = dataset.tokenizer;
  terminal.json({
    event: 'dataset',
    vocabularySize,
    trainingTokens,
    heldOutTokens: dataset.heldOut.tokens.length,
    heldOutNames: dataset.heldOutNames,
    cacheFolder,
    seconds,
  });
  terminal.line(
    `ready in ${formatDuration(seconds)}: ${formatCount(trainingTokens)} tokens to train on, in ${cacheFolder}`,
  );
  return exitCodes.ok;
}

/** Says what is in a text. */
export async function info(flags: DataFlags, context: CommandContext): Promise<number> {
  const { host, terminal } = context;
  const config = await configOf(flags, context);
  const cacheFolder = cacheFolderOf(host.env);
  const unusable: MoebiusError[] = [];
  const split = await readSplit(config, { cacheFolder, onUnusable: (error) => void unusable.push(error) });
  const stages = prepareSplitInStages(split, { tokenizer: config.tokenizer, cacheFolder });
  const { tokenizer, training, heldOut } = await tellStages(stages, context);
  const report: DatasetReport = describeDataset({ split, tokenizer, training, heldOut });
  const files = unusable.map(({ code, message }) => ({ code, message }));
  terminal.json({ event: 'data', ...report, unusable: files });
  for (const line of formatDataset(report)) terminal.line(line);
  for (const warning of [...files.map(({ message }) => message), ...warningsOf(report)]) {
    terminal.warn(`warning: ${warning}`);
  }
  return exitCodes.ok;
}

interface Reading {
  readonly cacheFolder: string;
  readonly onUnusable: (error: MoebiusError) => void;
}

/** As training splits, but duplicates across the split are a finding and not an error. */
async function readSplit({ data }: TrainConfig, reading: Reading): Promise<DocumentSplit> {
  const documents = await readTextSource(data.training, reading);
  if (data.heldOut === undefined) {
    return splitDocuments(documents, { heldOutFraction: data.heldOutFraction, seed: data.splitSeed });
  }
  return { training: documents, heldOut: await readTextSource(data.heldOut, reading) };
}

function configOf(flags: DataFlags, { host }: CommandContext): Promise<TrainConfig> {
  return makeRunConfig(flags, { engine: 'native', workingFolder: host.workingFolder });
}

async function tellStages(
  stages: AsyncGenerator<DatasetStage, Dataset, void>,
  { host, terminal }: CommandContext,
): Promise<Dataset> {
  let since = host.nowMs();
  for (;;) {
    const next = await stages.next();
    if (next.done === true) return next.value;
    const seconds = (host.nowMs() - since) / 1000;
    since = host.nowMs();
    const { stage, detail } = next.value;
    terminal.json({ event: 'prepare', stage, detail, seconds });
    terminal.note(`${stage.padEnd(10)} ${detail}, ${formatDuration(seconds)}`);
  }
}
