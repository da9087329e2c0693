/**
 * @file Writes safetensors files: laid out like the reference library's, whole or not at all.
 *
 * The file appears under its name only when it is complete and synced. See `atomic-file.ts`.
 */
import { MoebiusError } from '@moebius/core';

import { createPendingFile, type PendingFile, syncFolderOf } from './atomic-file.ts';
import { assertByteLength, type EncodableData, encodeTensor } from './codec.ts';
import { type FileSystem, nodeFileSystem } from './file-system.ts';
import { quote, type TensorInfo } from './header.ts';
import { type Layout, planLayout, type TensorSpec } from './layout.ts';

/** A tensor's elements, to be encoded; or its bytes as they shall be stored. Borrowed while they are written. */
export type TensorContent = { readonly data: EncodableData } | { readonly bytes: Uint8Array };

/** A tensor to be written. A function is called once, when its turn has come: tensors need not all be in memory. */
export type TensorSource = TensorSpec &
  (
    | TensorContent
    | {
        /** Makes what is written. */
        readonly content: () => TensorContent;
      }
  );

/** How to write. */
export interface WriteOptions {
  /** Strings kept in the header. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Where to write; the machine's file system by default. */
  readonly fileSystem?: FileSystem;
}

/** A file being written. End it with `commit` or `abort`. */
export interface SafetensorsWriter {
  /** The plan: what goes where. */
  readonly layout: Layout;
  /** Writes one tensor of the plan, in any order, once. */
  write(name: string, content: TensorContent): void;
  /** Checks that every tensor was written, syncs, and puts the file in its place. After a failure the old file stands. */
  commit(): void;
  /** Removes what was written. Allowed at any time. */
  abort(): void;
}

/**
 * Starts a file whose tensors come one by one.
 *
 * @param path - where it will be; its folder must exist. A symbolic link is replaced, not followed
 * @param specs - every tensor of the file
 * @throws `data` or `limit` on specs that cannot be laid out, `io` when the file cannot be made.
 */
export function createSafetensorsWriter(
  path: string,
  specs: readonly TensorSpec[],
  options: WriteOptions = {},
): SafetensorsWriter {
  const layout = planLayout(specs, {
    subject: path,
    ...(options.metadata && { metadata: options.metadata }),
  });
  const fileSystem = options.fileSystem ?? nodeFileSystem;
  const file = createPendingFile(path, fileSystem);
  try {
    file.write(layout.header, 0);
  } catch (error) {
    file.discard();
    throw error;
  }
  return new Writer(file, layout, fileSystem);
}

/**
 * Writes a file.
 *
 * @param path - where it will be; its folder must exist
 * @param tensors - in any order
 * @returns bytes of the file
 * @throws `data`, `shape` or `limit` on tensors that cannot be stored, `io` when the disk fails: the old file stands.
 * @example
 * ```ts
 * writeSafetensors('model.safetensors', [{ name: 'w', dtype: 'BF16', shape: [2], data: Float32Array.of(1, 2) }]);
 * ```
 */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  options: WriteOptions = {},
): number {
  const writer = createSafetensorsWriter(path, tensors, options);
  try {
    writeAll(writer, tensors);
    writer.commit();
  } catch (error) {
    writer.abort();
    throw error;
  }
  return writer.layout.fileSize;
}

/** Writes every tensor of a list, in the order of the file. */
export function writeAll(writer: SafetensorsWriter, tensors: readonly TensorSource[]): void {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  for (const { name } of writer.layout.tensors) {
    const source = byName.get(name);
    if (source !== undefined) writer.write(name, 'content' in source ? source.content() : source);
  }
}

/** The same file in memory. Caller owns the bytes. */
export function encodeSafetensors(
  tensors: readonly TensorSource[],
  options: Pick<WriteOptions, 'metadata'> = {},
): Uint8Array {
  const layout = planLayout(tensors, options);
  const file = new Uint8Array(layout.fileSize);
  file.set(layout.header);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  for (const info of layout.tensors) {
    const source = byName.get(info.name);
    if (source === undefined) continue;
    const bytes = packContent('content' in source ? source.content() : source, info, 'safetensors');
    file.set(bytes, layout.header.byteLength + info.begin);
  }
  return file;
}

class Writer implements SafetensorsWriter {
  readonly layout: Layout;
  readonly #file: PendingFile;
  readonly #fileSystem: FileSystem;
  readonly #missing: Map<string, TensorInfo>;

  constructor(file: PendingFile, layout: Layout, fileSystem: FileSystem) {
    this.#file = file;
    this.layout = layout;
    this.#fileSystem = fileSystem;
    this.#missing = new Map(layout.tensors.map((tensor) => [tensor.name, tensor]));
  }

  write(name: string, content: TensorContent): void {
    const info = this.#missing.get(name);
    if (info === undefined) {
      throw new MoebiusError({
        code: 'data',
        message: `${this.#file.path}: each planned tensor must be written once, got ${quote(name)} unplanned or again`,
        details: { name },
      });
    }
    this.#file.write(packContent(content, info, this.#file.path), this.layout.header.byteLength + info.begin);
    this.#missing.delete(name);
  }

  commit(): void {
    this.seal();
    this.publish();
    syncFolderOf(this.#file.path, this.#fileSystem);
  }

  /** The first half of a commit: the content is durable under a temporary name. */
  seal(): void {
    try {
      this.#assertComplete();
      this.#file.seal();
    } catch (error) {
      this.#file.discard();
      throw error;
    }
  }

  /** The second half: the file is in its place. */
  publish(): void {
    try {
      this.#file.publish();
    } catch (error) {
      this.#file.discard();
      throw error;
    }
  }

  abort(): void {
    this.#file.discard();
  }

  #assertComplete(): void {
    if (this.#missing.size === 0) return;
    const names = [...this.#missing.keys()];
    throw new MoebiusError({
      code: 'data',
      message: `${this.#file.path}: every planned tensor must be written before commit, got ${names.length} missing: ${names.slice(0, 5).map(quote).join(', ')}`,
      details: { missing: names.slice(0, 5), count: names.length },
    });
  }
}

/** A writer whose commit comes in two halves, for sets of files. */
export type TwoPhaseWriter = SafetensorsWriter & { seal(): void; publish(): void };

/** {@link createSafetensorsWriter} for a set of files: seal all, then publish all. */
export function createTwoPhaseWriter(
  path: string,
  specs: readonly TensorSpec[],
  options: WriteOptions = {},
): TwoPhaseWriter {
  return createSafetensorsWriter(path, specs, options) as Writer;
}

function packContent(content: TensorContent, info: TensorInfo, path: string): Uint8Array {
  const subject = `${path}: tensor ${quote(info.name)}`;
  if ('bytes' in content) {
    assertByteLength(content.bytes.byteLength, info, subject);
    return content.bytes;
  }
  return encodeTensor(content.data, { dtype: info.dtype, shape: info.shape, subject });
}
