/**
 * @file A file that appears whole or not at all, also after a power failure.
 *
 * Bytes go to a sibling temporary file, which is synced, renamed over the target, and the folder is synced. The old
 * file is never opened: readers of it keep what they had, and a failure at any call leaves it as it was.
 */
import path from 'node:path';

import { MoebiusError } from '@moebius/core';

import { attempt, errorCode, type FileHandle, type FileSystem, ioError } from './file-system.ts';

/** Temporary names that are tried: more leftovers than this are a fault of their own. */
const TEMPORARY_NAMES = 10_000;

/** A file on its way. */
export interface PendingFile {
  /** Where it will be. */
  readonly path: string;
  /** Writes all of `bytes` at `position`. */
  write(bytes: Uint8Array, position: number): void;
  /** Makes the content durable, still under its temporary name. */
  seal(): void;
  /** Moves it to its place; {@link PendingFile.seal} first. The folder is not synced yet. */
  publish(): void;
  /** Removes what is left; does nothing after publish. */
  discard(): void;
}

/**
 * Starts a file.
 *
 * @param target - its path; the folder must exist
 * @throws `io` when it cannot be created.
 */
export function createPendingFile(target: string, fileSystem: FileSystem): PendingFile {
  const { temporary, handle } = createTemporary(target, fileSystem);
  return new Pending({ target, temporary, handle, fileSystem });
}

/** Syncs the folder of a path, which makes renames in it durable. */
export function syncFolderOf(target: string, fileSystem: FileSystem): void {
  attempt(target, 'have a folder that can be synced', () => fileSystem.syncFolder(path.dirname(target)));
}

class Pending implements PendingFile {
  readonly path: string;
  readonly #temporary: string;
  readonly #fileSystem: FileSystem;
  #handle: FileHandle | undefined;
  #state: 'open' | 'sealed' | 'done' = 'open';

  constructor(fields: { target: string; temporary: string; handle: FileHandle; fileSystem: FileSystem }) {
    this.path = fields.target;
    this.#temporary = fields.temporary;
    this.#handle = fields.handle;
    this.#fileSystem = fields.fileSystem;
  }

  write(bytes: Uint8Array, position: number): void {
    const handle = this.#opened();
    let done = 0;
    while (done < bytes.byteLength) {
      const offset = done;
      const count = attempt(this.path, 'be writable', () =>
        this.#fileSystem.write(handle, bytes.subarray(offset), position + offset),
      );
      if (!(count > 0)) throw ioError(this.path, 'be writable', new Error(`a write of ${count} bytes`));
      done += count;
    }
  }

  seal(): void {
    const handle = this.#opened();
    attempt(this.path, 'be synced to disk', () => this.#fileSystem.sync(handle));
    this.#handle = undefined;
    attempt(this.path, 'be closed', () => this.#fileSystem.close(handle));
    this.#state = 'sealed';
  }

  publish(): void {
    if (this.#state !== 'sealed') throw outOfOrder(this.path, 'sealed before it is published', this.#state);
    attempt(this.path, 'be replaceable', () => this.#fileSystem.rename(this.#temporary, this.path));
    this.#state = 'done';
  }

  discard(): void {
    if (this.#state === 'done') return;
    this.#state = 'done';
    const handle = this.#handle;
    this.#handle = undefined;
    quietly(() => handle !== undefined && this.#fileSystem.close(handle));
    quietly(() => this.#fileSystem.remove(this.#temporary));
  }

  #opened(): FileHandle {
    if (this.#state === 'open' && this.#handle !== undefined) return this.#handle;
    throw outOfOrder(this.path, 'open to be written', this.#state);
  }
}

/** Tidying up after a failure: what fails here is less important than what failed before. */
function quietly(action: () => unknown): void {
  try {
    action();
  } catch {
    return;
  }
}

function createTemporary(target: string, fileSystem: FileSystem): { temporary: string; handle: FileHandle } {
  const folder = path.dirname(target);
  const base = path.basename(target);
  for (let number = 0; number < TEMPORARY_NAMES; number += 1) {
    const temporary = path.join(folder, `.${base}.${number}.tmp`);
    try {
      return { temporary, handle: fileSystem.create(temporary) };
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw ioError(target, 'be creatable', error);
    }
  }
  throw new MoebiusError({
    code: 'io',
    message: `${target}: must find a free temporary name, got ${TEMPORARY_NAMES} leftovers (remove .${base}.*.tmp)`,
    details: { path: target, tried: TEMPORARY_NAMES },
  });
}

function outOfOrder(target: string, expectation: string, state: string): MoebiusError {
  return new MoebiusError({
    code: 'internal',
    message: `internal: ${target}: must be ${expectation}, got ${state}`,
  });
}
