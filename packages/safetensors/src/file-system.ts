/**
 * @file The few file operations this package needs, as a port: tests make them fail, and other stores can stand in.
 */
import fs from 'node:fs';

import { isMoebiusError, MoebiusError } from '@moebius/core';

/** An open file. */
export type FileHandle = number;

/** What a writer needs of a file system. Every call blocks and throws what the system says. */
export interface FileSystem {
  /** Creates a file that must not exist, for writing, with the process's umask. */
  create(path: string): FileHandle;
  /** Writes some of `bytes` at `position`; returns how many. */
  write(handle: FileHandle, bytes: Uint8Array, position: number): number;
  /** Makes the file's content durable. */
  sync(handle: FileHandle): void;
  /** Closes a file. */
  close(handle: FileHandle): void;
  /** Moves a file over another one, atomically. */
  rename(from: string, to: string): void;
  /** Makes a folder's entries durable; does nothing where folders cannot be synced (Windows). */
  syncFolder(path: string): void;
  /** Removes a file; one that is not there is no error. */
  remove(path: string): void;
  /** Creates a folder and its parents. */
  makeFolder(path: string): void;
  /** The whole content of a small file, or `undefined` when there is none or it is larger than `limit` bytes. */
  readSmall(path: string, limit: number): Uint8Array | undefined;
  /** Whether something is at this path. */
  exists(path: string): boolean;
}

/** Codes with which platforms say that a folder cannot be synced. */
const NO_FOLDER_SYNC: ReadonlySet<string> = new Set([
  'EISDIR',
  'EPERM',
  'EACCES',
  'EINVAL',
  'ENOTSUP',
  'ENOSYS',
]);

/** The machine's own file system. */
export const nodeFileSystem: FileSystem = Object.freeze({
  create: (path: string): FileHandle => fs.openSync(path, 'wx', 0o666),
  write: (handle: FileHandle, bytes: Uint8Array, position: number): number =>
    fs.writeSync(handle, bytes, 0, Math.min(bytes.byteLength, CHUNK_BYTES), position),
  sync: (handle: FileHandle): void => fs.fsyncSync(handle),
  close: (handle: FileHandle): void => fs.closeSync(handle),
  rename: (from: string, to: string): void => fs.renameSync(from, to),
  syncFolder,
  remove: (path: string): void => fs.rmSync(path, { force: true }),
  makeFolder: (path: string): void => {
    fs.mkdirSync(path, { recursive: true });
  },
  readSmall: (path: string, limit: number): Uint8Array | undefined => {
    const size = fs.statSync(path, { throwIfNoEntry: false })?.size;
    return size === undefined || size > limit ? undefined : fs.readFileSync(path);
  },
  exists: (path: string): boolean => fs.existsSync(path),
});

/** Bytes of one system call: Linux moves at most 2^31 - 4096. */
const CHUNK_BYTES = 1_073_741_824;

function syncFolder(path: string): void {
  let handle: number | undefined;
  try {
    handle = fs.openSync(path, 'r');
    fs.fsyncSync(handle);
  } catch (error) {
    if (!NO_FOLDER_SYNC.has(errorCode(error))) throw error;
  } finally {
    if (handle !== undefined) fs.closeSync(handle);
  }
}

/** Where bytes are read from, at any position. */
export interface ByteSource {
  /** Bytes there are. */
  readonly size: number;
  /** Fills `target` from `position`; throws `io` when there are not enough bytes. */
  read(target: Uint8Array, position: number): void;
  /** The same without blocking. */
  readAsync(target: Uint8Array, position: number): Promise<void>;
  /** Lets go of the source. */
  close(): void;
}

/**
 * Opens a file for reading at any position.
 *
 * @throws `io` when it cannot be opened or is not a file.
 */
export function openFile(path: string): ByteSource {
  const handle = attempt(path, 'be readable', () => fs.openSync(path, 'r'));
  try {
    const status = attempt(path, 'be readable', () => fs.fstatSync(handle));
    if (!status.isFile()) {
      throw new MoebiusError({
        code: 'io',
        message: `${path}: must be a file, got something else`,
        details: { path },
      });
    }
    return new FileSource(path, handle, status.size);
  } catch (error) {
    fs.closeSync(handle);
    throw error;
  }
}

class FileSource implements ByteSource {
  readonly size: number;
  readonly #path: string;
  readonly #handle: number;
  #isOpen = true;

  constructor(path: string, handle: number, size: number) {
    this.#path = path;
    this.#handle = handle;
    this.size = size;
  }

  read(target: Uint8Array, position: number): void {
    this.#assertOpen();
    let done = 0;
    while (done < target.byteLength) {
      const length = Math.min(target.byteLength - done, CHUNK_BYTES);
      const offset = done;
      const count = attempt(this.#path, 'be readable', () =>
        fs.readSync(this.#handle, target, offset, length, position + offset),
      );
      if (count === 0) throw this.#cutShort(position + done);
      done += count;
    }
  }

  async readAsync(target: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < target.byteLength) {
      this.#assertOpen();
      const length = Math.min(target.byteLength - done, CHUNK_BYTES);
      const count = await this.#readSome(target, { offset: done, length, position: position + done });
      if (count === 0) throw this.#cutShort(position + done);
      done += count;
    }
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    fs.closeSync(this.#handle);
  }

  #readSome(
    target: Uint8Array,
    range: { offset: number; length: number; position: number },
  ): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#handle, target, range.offset, range.length, range.position, (error, count) => {
        if (error === null) resolve(count);
        else reject(ioError(this.#path, 'be readable', error));
      });
    });
  }

  #assertOpen(): void {
    if (this.#isOpen) return;
    throw new MoebiusError({
      code: 'io',
      message: `${this.#path}: must be open to be read, got a closed file`,
    });
  }

  #cutShort(at: number): MoebiusError {
    return new MoebiusError({
      code: 'io',
      message: `${this.#path}: must keep its ${this.size} bytes while it is read, got an end at ${at} (was it written over?)`,
      details: { path: this.#path, size: this.size, at },
    });
  }
}

/** Bytes in memory as a source; borrowed. */
export function memorySource(bytes: Uint8Array): ByteSource {
  const read = (target: Uint8Array, position: number): void => {
    target.set(bytes.subarray(position, position + target.byteLength));
  };
  return {
    size: bytes.byteLength,
    read,
    readAsync: async (target, position) => read(target, position),
    close: () => {},
  };
}

/** Runs a file operation; what it throws becomes an `io` error with the path. */
export function attempt<T>(path: string, expectation: string, operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    throw isMoebiusError(error) ? error : ioError(path, expectation, error);
  }
}

/** An `io` error of the form *path: must be …, got ENOSPC*. */
export function ioError(path: string, expectation: string, cause: unknown): MoebiusError {
  const code = errorCode(cause) || String(cause);
  const remedy = REMEDIES.get(code);
  return new MoebiusError({
    code: 'io',
    message: `${path}: must ${expectation}, got ${code}${remedy === undefined ? '' : ` (${remedy})`}`,
    details: { path, code },
    cause,
  });
}

const REMEDIES: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'check the path'],
  ['ENOSPC', 'free some space'],
  ['EDQUOT', 'free some of the quota'],
  ['EACCES', 'check the permissions'],
  ['EROFS', 'the file system is read-only'],
  ['EXDEV', 'the folder must be on one file system'],
  ['EMFILE', 'raise the limit of open files'],
]);

/** The system's code of an error (`ENOSPC`), or the empty string. */
export function errorCode(error: unknown): string {
  const code = typeof error === 'object' && error !== null ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' ? code : '';
}
