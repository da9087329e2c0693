/**
 * @file Writes a model as shards with an index, so that the switch from the old model to the new one is one rename.
 *
 * Shards never replace files: when their usual names are taken, they get a generation in the name. The index is
 * renamed into place last; only then are the old model's files removed. A model of one shard has no index, and its
 * `model.safetensors` is the commit. Readers (ours, and Hugging Face's) prefer `model.safetensors` to the index, so
 * that at every moment between the calls they see all of the old model or all of the new one.
 */
import path from 'node:path';

import { isMoebiusError, MoebiusError } from '@moebius/core';

import { createPendingFile, syncFolderOf } from './atomic-file.ts';
import { attempt, type FileSystem, nodeFileSystem } from './file-system.ts';
import { defaultLimits } from './limits.ts';
import { formatShardIndex, parseShardIndex, type PlannedShard, planShards } from './shard-index.ts';
import {
  createTwoPhaseWriter,
  type TensorSource,
  type TwoPhaseWriter,
  writeAll,
  type WriteOptions,
} from './writer.ts';

/** How to write a sharded model. */
export interface ShardedWriteOptions extends WriteOptions {
  /** Most bytes of tensors in one file; 5 GB by default, as Hugging Face has it. */
  readonly maxShardBytes?: number;
  /** Start of the file names; `model` by default. */
  readonly baseName?: string;
}

/** What was written. */
export interface ShardedWriteResult {
  /** Names of the tensor files, in order. */
  readonly files: readonly string[];
  /** Name of the index; absent when one file holds everything. */
  readonly index?: string;
  /** Bytes of all tensors. */
  readonly totalBytes: number;
}

const GENERATIONS = 10_000;

/**
 * Writes a model into a folder, as one file or as shards with an index.
 *
 * @param folder - created when missing
 * @param tensors - divided in the order given; give `content` functions to hold only one tensor at a time
 * @throws `data`, `shape` or `limit` on tensors that cannot be stored; `io` when the disk fails. The old model stands
 *   unless the error came after the commit, while its files were being removed.
 */
export function writeShardedSafetensors(
  folder: string,
  tensors: readonly TensorSource[],
  options: ShardedWriteOptions = {},
): ShardedWriteResult {
  const { fileSystem = nodeFileSystem, baseName = 'model', maxShardBytes = 5_000_000_000 } = options;
  assertUniqueNames(tensors, folder);
  const shards = planShards(tensors, maxShardBytes);
  attempt(folder, 'be creatable', () => fileSystem.makeFolder(folder));
  const single = `${baseName}.safetensors`;
  const index = `${single}.index.json`;
  const former = formerShards(path.join(folder, index), fileSystem);
  const totalBytes = shards.reduce((sum, shard) => sum + shard.byteLength, 0);
  const names =
    shards.length <= 1 ? [single] : freeNames(folder, { baseName, count: shards.length, fileSystem });
  const plan = shards.length === 0 ? [{ tensors: [], byteLength: 0 }] : shards;
  const files = plan.map((shard, at) => ({ shard, path: path.join(folder, names[at] ?? single) }));
  if (shards.length <= 1) {
    commitShards(files, { ...options, fileSystem, indexFile: undefined });
    removeFormer(folder, [index, ...former], fileSystem);
    return { files: names, totalBytes };
  }
  const weightMap = new Map(
    plan.flatMap((shard, at) => shard.tensors.map(({ name }) => [name, names[at] ?? single])),
  );
  const text = formatShardIndex(weightMap, { totalSize: totalBytes });
  commitShards(files, { ...options, fileSystem, indexFile: { path: path.join(folder, index), text } });
  removeFormer(folder, [single, ...former], fileSystem);
  return { files: names, index, totalBytes };
}

interface ShardFile {
  readonly shard: PlannedShard<TensorSource>;
  readonly path: string;
}

interface CommitOptions extends WriteOptions {
  readonly fileSystem: FileSystem;
  readonly indexFile: { readonly path: string; readonly text: string } | undefined;
}

/** Makes all files durable under temporary names, publishes them, then the index. */
function commitShards(files: readonly ShardFile[], options: CommitOptions): void {
  const { fileSystem, indexFile } = options;
  const writers: TwoPhaseWriter[] = [];
  const published: string[] = [];
  try {
    for (const file of files) {
      const writer = createTwoPhaseWriter(file.path, file.shard.tensors, options);
      writers.push(writer);
      writeAll(writer, file.shard.tensors);
      writer.seal();
    }
    for (const [at, writer] of writers.entries()) {
      writer.publish();
      published.push(files[at]?.path ?? '');
    }
    for (const file of files.slice(0, 1)) syncFolderOf(file.path, fileSystem);
    if (indexFile !== undefined) publishIndex(indexFile, fileSystem);
  } catch (error) {
    for (const writer of writers) writer.abort();
    if (indexFile !== undefined) removeQuietly(published, fileSystem);
    throw error;
  }
  if (indexFile !== undefined) syncFolderOf(indexFile.path, fileSystem);
}

function publishIndex(
  indexFile: { readonly path: string; readonly text: string },
  fileSystem: FileSystem,
): void {
  const pending = createPendingFile(indexFile.path, fileSystem);
  try {
    pending.write(Buffer.from(indexFile.text, 'utf8'), 0);
    pending.seal();
    pending.publish();
  } catch (error) {
    pending.discard();
    throw error;
  }
}

/** Names that no file has yet. */
function freeNames(
  folder: string,
  options: { readonly baseName: string; readonly count: number; readonly fileSystem: FileSystem },
): string[] {
  const { baseName, count, fileSystem } = options;
  const total = String(count).padStart(5, '0');
  for (let generation = 1; generation <= GENERATIONS; generation += 1) {
    const start = generation === 1 ? baseName : `${baseName}-g${generation}`;
    const names = Array.from(
      { length: count },
      (_, at) => `${start}-${String(at + 1).padStart(5, '0')}-of-${total}.safetensors`,
    );
    if (!names.some((name) => isThere(path.join(folder, name), fileSystem))) return names;
  }
  throw new MoebiusError({
    code: 'io',
    message: `${folder}: must have free shard names, got ${GENERATIONS} generations (remove files that no index names)`,
  });
}

/** Shards of the model that is there now, to be removed after the switch; none when its index is broken. */
function formerShards(indexPath: string, fileSystem: FileSystem): readonly string[] {
  const bytes = attempt(indexPath, 'be readable', () =>
    fileSystem.readSmall(indexPath, defaultLimits.indexBytes),
  );
  if (bytes === undefined) return [];
  try {
    return parseShardIndex(bytes, { subject: indexPath }).shards;
  } catch (error) {
    if (isMoebiusError(error)) return [];
    throw error;
  }
}

function removeFormer(folder: string, names: readonly string[], fileSystem: FileSystem): void {
  const present = names.map((name) => path.join(folder, name)).filter((file) => isThere(file, fileSystem));
  for (const file of present)
    attempt(file, 'be removable, now that the new model is in place', () => fileSystem.remove(file));
}

function isThere(file: string, fileSystem: FileSystem): boolean {
  return attempt(file, 'be reachable', () => fileSystem.exists(file));
}

/** Removes new files that no index names; failing to is not the error to report. */
function removeQuietly(paths: readonly string[], fileSystem: FileSystem): void {
  for (const file of paths) {
    try {
      fileSystem.remove(file);
    } catch {
      continue;
    }
  }
}

function assertUniqueNames(tensors: readonly TensorSource[], folder: string): void {
  const seen = new Set<string>();
  for (const { name } of tensors) {
    if (seen.has(name)) {
      throw new MoebiusError({
        code: 'data',
        message: `${folder}: tensor names must be unique, got ${JSON.stringify(name)} twice`,
      });
    }
    seen.add(name);
  }
}
