/**
 * @file Reads safetensors files: the header once, tensors at random, blocking or not.
 *
 * Nothing is mapped into memory, so a file that is replaced while it is open keeps its old content for this reader.
 */
import { type DType, elementCount, MoebiusError, nearest } from '@moebius/core';

import { type Allocate, type DecodeOptions, planDecode, type TensorValue } from './codec.ts';
import { type ByteSource, memorySource, openFile } from './file-system.ts';
import {
  type HeaderOptions,
  parseHeader,
  parseHeaderLength,
  PREFIX_BYTES,
  quote,
  type TensorInfo,
} from './header.ts';

/** How to open a file. */
export interface OpenOptions extends HeaderOptions {
  /** Where buffers of tensors come from: a pool, or an account of what is used. Must give exactly the bytes asked for. */
  readonly allocate?: Allocate;
}

/** Rows of the first dimension: `start` inclusive, `end` exclusive. */
export interface RowRange {
  readonly start: number;
  readonly end: number;
}

/** Tensors by name. Every returned buffer belongs to the caller. */
export interface TensorReader {
  /** Names, in the order of their bytes. */
  names(): readonly string[];
  /** Whether there is a tensor of this name. */
  has(name: string): boolean;
  /** Type, shape and place of a tensor. Throws `data`, naming the nearest, when there is none. */
  info(name: string): TensorInfo;
  /** The `__metadata__` strings. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Decodes a tensor. */
  read(name: string, options?: DecodeOptions): TensorValue;
  /** The same without blocking. */
  readAsync(name: string, options?: DecodeOptions): Promise<TensorValue>;
  /** A tensor's bytes as stored. */
  readBytes(name: string): Uint8Array;
  /** The same without blocking. */
  readBytesAsync(name: string): Promise<Uint8Array>;
  /** Decodes some rows of a tensor, reading only those. */
  readSlice(name: string, rows: RowRange, options?: DecodeOptions): TensorValue;
  /** The same without blocking. */
  readSliceAsync(name: string, rows: RowRange, options?: DecodeOptions): Promise<TensorValue>;
  /** Lets go of the file. Reading afterwards throws `io`. */
  close(): void;
  /** The same, for `using`. */
  [Symbol.dispose](): void;
  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Opens a file and checks its header.
 *
 * @throws `io` when it cannot be read; `format` or `limit` when it is not a valid file.
 * @example
 * ```ts
 * using file = openSafetensors('model.safetensors');
 * const { data, shape } = file.read('model.embed_tokens.weight');
 * ```
 */
export function openSafetensors(path: string, options: OpenOptions = {}): TensorReader {
  const source = openFile(path);
  try {
    return createReader(source, { subject: path, ...options });
  } catch (error) {
    source.close();
    throw error;
  }
}

/**
 * Reads a file that is in memory.
 *
 * @param bytes - the whole file; borrowed until close
 * @throws `format` or `limit` when it is not a valid file.
 */
export function parseSafetensors(bytes: Uint8Array, options: OpenOptions = {}): TensorReader {
  return createReader(memorySource(bytes), options);
}

/** Reads from any source of bytes, which it then owns. */
export function createReader(source: ByteSource, options: OpenOptions): TensorReader {
  const { subject = 'safetensors' } = options;
  const prefix = new Uint8Array(Math.min(PREFIX_BYTES, source.size));
  source.read(prefix, 0);
  const length = parseHeaderLength(prefix, source.size, options);
  const bytes = new Uint8Array(PREFIX_BYTES + length);
  source.read(bytes, 0);
  const header = parseHeader(bytes, source.size, options);
  return new SourceReader(source, { ...header, subject, allocate: options.allocate });
}

interface ReaderFields {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly dataStart: number;
  readonly subject: string;
  readonly allocate: Allocate | undefined;
}

/** A part of a tensor that lies in one run of bytes. */
interface Span {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly subject: string;
  /** Offset in the file. */
  readonly position: number;
}

class SourceReader implements TensorReader {
  readonly metadata: ReadonlyMap<string, string>;
  readonly #source: ByteSource;
  readonly #fields: ReaderFields;

  constructor(source: ByteSource, fields: ReaderFields) {
    this.#source = source;
    this.#fields = fields;
    this.metadata = fields.metadata;
  }

  names(): readonly string[] {
    return [...this.#fields.tensors.keys()];
  }

  has(name: string): boolean {
    return this.#fields.tensors.has(name);
  }

  info(name: string): TensorInfo {
    const info = this.#fields.tensors.get(name);
    if (info === undefined) throw unknownTensor(this.#fields.subject, name, this.names());
    return info;
  }

  read(name: string, options: DecodeOptions = {}): TensorValue {
    return this.#decode(this.#whole(name), options);
  }

  readAsync(name: string, options: DecodeOptions = {}): Promise<TensorValue> {
    return this.#decodeAsync(() => this.#whole(name), options);
  }

  readBytes(name: string): Uint8Array {
    const { target, position } = this.#bytesOf(name);
    this.#source.read(target, position);
    return target;
  }

  async readBytesAsync(name: string): Promise<Uint8Array> {
    const { target, position } = this.#bytesOf(name);
    await this.#source.readAsync(target, position);
    return target;
  }

  readSlice(name: string, rows: RowRange, options: DecodeOptions = {}): TensorValue {
    return this.#decode(this.#slice(name, rows), options);
  }

  readSliceAsync(name: string, rows: RowRange, options: DecodeOptions = {}): Promise<TensorValue> {
    return this.#decodeAsync(() => this.#slice(name, rows), options);
  }

  close(): void {
    this.#source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #decode(span: Span, options: DecodeOptions): TensorValue {
    const plan = planDecode(span, this.#withAllocator(options));
    this.#source.read(plan.target, span.position);
    return plan.finish();
  }

  async #decodeAsync(find: () => Span, options: DecodeOptions): Promise<TensorValue> {
    const span = find();
    const plan = planDecode(span, this.#withAllocator(options));
    await this.#source.readAsync(plan.target, span.position);
    return plan.finish();
  }

  #withAllocator(options: DecodeOptions): DecodeOptions & { readonly allocate?: Allocate } {
    const { allocate } = this.#fields;
    return allocate === undefined ? options : { ...options, allocate };
  }

  #bytesOf(name: string): { target: Uint8Array; position: number } {
    const { begin, end } = this.info(name);
    const buffer = this.#fields.allocate?.(end - begin) ?? new ArrayBuffer(end - begin);
    return { target: new Uint8Array(buffer), position: this.#fields.dataStart + begin };
  }

  #whole(name: string): Span {
    const { dtype, shape, begin } = this.info(name);
    return { dtype, shape, subject: this.#subjectOf(name), position: this.#fields.dataStart + begin };
  }

  #slice(name: string, rows: RowRange): Span {
    const { dtype, shape, begin, end } = this.info(name);
    const subject = this.#subjectOf(name);
    const [height, ...rest] = shape;
    const { start, end: stop } = rows;
    const fits =
      height !== undefined &&
      Number.isInteger(start) &&
      Number.isInteger(stop) &&
      start >= 0 &&
      stop <= height;
    if (!fits || start > stop) {
      throw new MoebiusError({
        code: 'shape',
        message: `${subject}: rows must lie in order within the first of [${shape.join(', ')}], got ${start} to ${stop}`,
        details: { subject, shape: [...shape], start, end: stop },
      });
    }
    const rowBytes = height === 0 || elementCount(rest) === 0 ? 0 : (end - begin) / height;
    if (!Number.isInteger(rowBytes)) {
      throw new MoebiusError({
        code: 'shape',
        message: `${subject}: rows must fill whole bytes to be sliced, got ${rowBytes} bytes of ${dtype} (read the whole tensor)`,
        details: { subject, dtype, shape: [...shape], rowBytes },
      });
    }
    const position = this.#fields.dataStart + begin + start * rowBytes;
    return { dtype, shape: [stop - start, ...rest], subject, position };
  }

  #subjectOf(name: string): string {
    return `${this.#fields.subject}: tensor ${quote(name)}`;
  }
}

/** The error for a name that is not there. */
export function unknownTensor(subject: string, name: string, known: readonly string[]): MoebiusError {
  const close = known.length > 5000 ? undefined : nearest(name, known);
  const hint = close === undefined ? '' : ` (did you mean ${quote(close)}?)`;
  return new MoebiusError({
    code: 'data',
    message: `${subject}: tensor must be one of its ${known.length}, got ${quote(name)}${hint}`,
    details: { subject, name, count: known.length, nearest: close ?? null },
  });
}
