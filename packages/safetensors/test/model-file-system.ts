/**
 * A file system in memory that knows what a power failure may leave: content that was synced is there, other content may
 * be absent, whole or zeros; folder changes that were synced are there, of the others any subset is.
 */
import path from 'node:path';

import type { FileHandle, FileSystem } from '../src/index.ts';

interface Inode {
  content: Uint8Array;
  synced: Uint8Array;
}

interface EntryChange {
  readonly path: string;
  readonly inode: Inode | undefined;
}

export interface ModelOptions {
  /** The call that fails, counted from 0; none by default. */
  readonly failAt?: number;
  /** `error`: that call alone throws this code. `crash`: that call and all later ones throw: the process is gone. */
  readonly mode?: 'crash' | 'ENOSPC' | 'EIO';
  /** Most bytes that one write takes. */
  readonly writeBytes?: number;
  /** A disk that says it synced, and did not. */
  readonly syncsNothing?: boolean;
}

export type Files = ReadonlyMap<string, Uint8Array>;

export class ModelFileSystem implements FileSystem {
  readonly calls: string[] = [];
  readonly #options: ModelOptions;
  readonly #live = new Map<string, Inode>();
  readonly #durable = new Map<string, Inode>();
  readonly #handles = new Map<FileHandle, Inode>();
  #changes: EntryChange[] = [];
  #nextHandle = 3;

  constructor(files: Files, options: ModelOptions = {}) {
    this.#options = options;
    for (const [name, content] of files) {
      const inode = { content: content.slice(), synced: content.slice() };
      this.#live.set(name, inode);
      this.#durable.set(name, inode);
    }
  }

  /** What a running process sees. */
  files(): Files {
    return new Map([...this.#live].map(([name, inode]) => [name, inode.content]));
  }

  /** Handles that were not closed. */
  openHandles(): number {
    return this.#handles.size;
  }

  /** Every state that a power failure now may leave. */
  afterPowerFailure(): Files[] {
    const views: Files[] = [];
    for (let subset = 0; subset < 2 ** this.#changes.length; subset += 1) {
      const entries = new Map(this.#durable);
      for (const [at, change] of this.#changes.entries()) if ((subset >> at) & 1) apply(entries, change);
      for (const pick of [synced, live, zeros])
        views.push(new Map([...entries].map(([name, inode]) => [name, pick(inode)])));
    }
    return views;
  }

  create(name: string): FileHandle {
    this.#enter(`create ${path.basename(name)}`);
    if (this.#live.has(name)) throw systemError('EEXIST');
    const inode = { content: new Uint8Array(), synced: new Uint8Array() };
    this.#change({ path: name, inode });
    this.#handles.set(this.#nextHandle, inode);
    this.#nextHandle += 1;
    return this.#nextHandle - 1;
  }

  write(handle: FileHandle, bytes: Uint8Array, position: number): number {
    this.#enter(`write ${position}`);
    const inode = this.#inode(handle);
    const part = bytes.subarray(0, this.#options.writeBytes ?? bytes.byteLength);
    const grown = new Uint8Array(Math.max(inode.content.byteLength, position + part.byteLength));
    grown.set(inode.content);
    grown.set(part, position);
    inode.content = grown;
    return part.byteLength;
  }

  sync(handle: FileHandle): void {
    this.#enter('sync');
    const inode = this.#inode(handle);
    if (this.#options.syncsNothing !== true) inode.synced = inode.content.slice();
  }

  close(handle: FileHandle): void {
    // A handle is gone even when closing it fails.
    this.#inode(handle);
    this.#handles.delete(handle);
    this.#enter('close');
  }

  rename(from: string, to: string): void {
    this.#enter(`rename ${path.basename(to)}`);
    const inode = this.#live.get(from);
    if (inode === undefined) throw systemError('ENOENT');
    this.#live.delete(from);
    this.#live.set(to, inode);
    this.#changes.push({ path: to, inode });
    // The old name goes with the same journal record as the new one comes.
    this.#durable.delete(from);
    this.#changes = this.#changes.filter((change) => change.path !== from);
  }

  syncFolder(): void {
    this.#enter('sync folder');
    for (const change of this.#changes) apply(this.#durable, change);
    this.#changes = [];
  }

  remove(name: string): void {
    this.#enter(`remove ${path.basename(name)}`);
    if (this.#live.has(name)) this.#change({ path: name, inode: undefined });
  }

  makeFolder(): void {
    this.#enter('make folder');
  }

  readSmall(name: string, limit: number): Uint8Array | undefined {
    this.#enter('read');
    const content = this.#live.get(name)?.content;
    return content === undefined || content.byteLength > limit ? undefined : content.slice();
  }

  exists(name: string): boolean {
    this.#enter('exists');
    return this.#live.has(name);
  }

  #change(change: EntryChange): void {
    apply(this.#live, change);
    this.#changes.push(change);
  }

  #inode(handle: FileHandle): Inode {
    const inode = this.#handles.get(handle);
    if (inode === undefined) throw systemError('EBADF');
    return inode;
  }

  #enter(call: string): void {
    const { failAt = Infinity, mode = 'EIO' } = this.#options;
    const index = this.calls.length;
    this.calls.push(call);
    if (mode === 'crash' ? index >= failAt : index === failAt) throw systemError(mode);
  }
}

function apply(entries: Map<string, Inode>, { path: name, inode }: EntryChange): void {
  if (inode === undefined) entries.delete(name);
  else entries.set(name, inode);
}

const synced = (inode: Inode): Uint8Array => inode.synced;
const live = (inode: Inode): Uint8Array => inode.content;
const zeros = (inode: Inode): Uint8Array => {
  const whole = new Uint8Array(inode.content.byteLength);
  whole.set(inode.synced.subarray(0, whole.byteLength));
  return whole;
};

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}
