/** @file Reads a model that is one file, or shards with an index, through one interface. */
import fs from 'node:fs';
import path from 'node:path';

import { MoebiusError } from '@moebius/core';

import type { DecodeOptions, TensorValue } from './codec.ts';
import { attempt, openFile } from './file-system.ts';
import { formatError, quote, type TensorInfo } from './header.ts';
import { defaultLimits } from './limits.ts';
import {
  type OpenOptions,
  openSafetensors,
  type RowRange,
  type TensorReader,
  unknownTensor,
} from './reader.ts';
import { parseShardIndex, type ShardIndex } from './shard-index.ts';

/** Most names listed in a message. */
const NAMED = 5;

/** A reader over one or more files. */
export interface ShardedReader extends TensorReader {
  /** Paths of the files, in the order of the index. */
  readonly files: readonly string[];
  /** The file that holds a tensor. */
  fileOf(name: string): string;
}

/**
 * Opens a model and checks that index and shards agree, tensor by tensor.
 *
 * @param location - a folder (with `model.safetensors`, or else `model.safetensors.index.json`), an index, or a file
 * @throws `io` when files are missing; `format` or `limit` when the index or a shard is not valid or they disagree.
 */
export function openSharded(location: string, options: OpenOptions = {}): ShardedReader {
  const target = resolveModel(location);
  const isIndex = target.endsWith('.json');
  const index = isIndex ? readIndex(target, options) : undefined;
  const files =
    index === undefined ? [target] : index.shards.map((shard) => path.join(path.dirname(target), shard));
  assertPresent(target, files);
  const readers: TensorReader[] = [];
  try {
    for (const file of files) readers.push(openSafetensors(file, { ...options, subject: file }));
    if (index !== undefined) assertAgreement(target, index, readers);
  } catch (error) {
    for (const reader of readers) reader.close();
    throw error;
  }
  return new JoinedReader(target, files, readers);
}

function resolveModel(location: string): string {
  const status = attempt(location, 'be readable', () => fs.statSync(location));
  if (!status.isDirectory()) return location;
  const single = path.join(location, 'model.safetensors');
  if (fs.existsSync(single)) return single;
  const index = `${single}.index.json`;
  if (fs.existsSync(index)) return index;
  throw new MoebiusError({
    code: 'io',
    message: `${location}: must hold model.safetensors or model.safetensors.index.json, got neither (give the path of the file)`,
    details: { location },
  });
}

function readIndex(target: string, options: OpenOptions): ShardIndex {
  const limits = { ...defaultLimits, ...options.limits };
  const source = openFile(target);
  try {
    if (source.size > limits.indexBytes) {
      throw new MoebiusError({
        code: 'limit',
        message: `${target}: must have at most ${limits.indexBytes} bytes, got ${source.size} (raise limits.indexBytes for a file you trust)`,
        details: { limit: limits.indexBytes, got: source.size },
      });
    }
    const bytes = new Uint8Array(source.size);
    source.read(bytes, 0);
    return parseShardIndex(bytes, { subject: target, limits });
  } finally {
    source.close();
  }
}

function assertPresent(target: string, files: readonly string[]): void {
  const missing = files.filter((file) => !fs.existsSync(file));
  if (missing.length === 0) return;
  throw new MoebiusError({
    code: 'io',
    message: `${target}: all ${files.length} files must be there, got ${missing.length} missing: ${listSome(missing.map((file) => path.basename(file)))} (finish the download)`,
    details: { missing: missing.slice(0, NAMED).map((file) => path.basename(file)), count: missing.length },
  });
}

/** Every tensor of the index is in its shard, and nothing else is. */
function assertAgreement(target: string, index: ShardIndex, readers: readonly TensorReader[]): void {
  const byShard = new Map(index.shards.map((shard, at) => [shard, readers[at]]));
  const absent = [...index.weightMap].filter(([name, shard]) => byShard.get(shard)?.has(name) !== true);
  if (absent.length > 0) {
    const list = listSome(absent.map(([name, shard]) => `${quote(name)} in ${shard}`));
    throw formatError(
      target,
      'every tensor must be in the shard the index names',
      `${absent.length} absent: ${list}`,
    );
  }
  const unlisted = [...byShard].flatMap(([shard, reader]) =>
    (reader?.names() ?? [])
      .filter((name) => index.weightMap.get(name) !== shard)
      .map((name) => `${quote(name)} in ${shard}`),
  );
  if (unlisted.length > 0) {
    throw formatError(
      target,
      'every tensor of a shard must be in the index',
      `${unlisted.length} unlisted: ${listSome(unlisted)}`,
    );
  }
}

function listSome(names: readonly string[]): string {
  return names.slice(0, NAMED).join(', ') + (names.length > NAMED ? ', …' : '');
}

class JoinedReader implements ShardedReader {
  readonly files: readonly string[];
  readonly metadata: ReadonlyMap<string, string>;
  readonly #subject: string;
  readonly #readers: readonly TensorReader[];
  readonly #places: ReadonlyMap<string, number>;

  constructor(subject: string, files: readonly string[], readers: readonly TensorReader[]) {
    this.#subject = subject;
    this.files = files;
    this.#readers = readers;
    this.#places = new Map(
      readers.flatMap((reader, at) => reader.names().map((name): [string, number] => [name, at])),
    );
    this.metadata = new Map(readers.toReversed().flatMap((reader) => [...reader.metadata]));
  }

  names(): readonly string[] {
    return [...this.#places.keys()];
  }

  has(name: string): boolean {
    return this.#places.has(name);
  }

  info(name: string): TensorInfo {
    return this.#readerOf(name).info(name);
  }

  fileOf(name: string): string {
    return this.files[this.#placeOf(name)] ?? '';
  }

  read(name: string, options?: DecodeOptions): TensorValue {
    return this.#readerOf(name).read(name, options);
  }

  async readAsync(name: string, options?: DecodeOptions): Promise<TensorValue> {
    return this.#readerOf(name).readAsync(name, options);
  }

  readBytes(name: string): Uint8Array {
    return this.#readerOf(name).readBytes(name);
  }

  async readBytesAsync(name: string): Promise<Uint8Array> {
    return this.#readerOf(name).readBytesAsync(name);
  }

  readSlice(name: string, rows: RowRange, options?: DecodeOptions): TensorValue {
    return this.#readerOf(name).readSlice(name, rows, options);
  }

  async readSliceAsync(name: string, rows: RowRange, options?: DecodeOptions): Promise<TensorValue> {
    return this.#readerOf(name).readSliceAsync(name, rows, options);
  }

  close(): void {
    for (const reader of this.#readers) reader.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #placeOf(name: string): number {
    const place = this.#places.get(name);
    if (place === undefined) throw unknownTensor(this.#subject, name, this.names());
    return place;
  }

  #readerOf(name: string): TensorReader {
    const reader = this.#readers[this.#placeOf(name)];
    if (reader === undefined) throw unknownTensor(this.#subject, name, this.names());
    return reader;
  }
}
