/**
 * @file The header of a safetensors file: eight bytes of length, JSON, then the data buffer.
 *
 * Everything is checked before anything is allocated for a tensor: the ranges must start at 0, touch without gap or
 * overlap and end at the end of the file, so that a file has one meaning and no place to hide a second one.
 */
import {
  byteLength,
  type DType,
  dtypes,
  isDType,
  isMoebiusError,
  MoebiusError,
  nearest,
} from '@moebius/core';

import { JsonScanner } from './json-scanner.ts';
import { defaultLimits, type Limits } from './limits.ts';

/** Bytes of the length at the start of a file. */
export const PREFIX_BYTES: number = 8;

/** Where a tensor is and what it is. */
export interface TensorInfo {
  /** Its name; no meaning of a path is attached. */
  readonly name: string;
  /** Element type, as stored. */
  readonly dtype: DType;
  /** Shape; `[]` for a scalar. */
  readonly shape: readonly number[];
  /** First byte, relative to the data buffer. */
  readonly begin: number;
  /** One past the last byte, relative to the data buffer. */
  readonly end: number;
}

/** A checked header. */
export interface SafetensorsHeader {
  /** The `__metadata__` strings. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Tensors by name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Offset of the data buffer in the file: 8 + header length. */
  readonly dataStart: number;
}

/** How to read a header. */
export interface HeaderOptions {
  /** What is read, for messages: a path, usually. */
  readonly subject?: string;
  /** Replaces some of the {@link defaultLimits}. */
  readonly limits?: Partial<Limits>;
}

/**
 * The length of the header JSON, checked against the file and the limit.
 *
 * @param prefix - at least the first 8 bytes of the file, when it has that many
 * @param fileSize - bytes of the whole file
 * @throws `format` when the file is too short for what it says; `limit` when the header is too long.
 */
export function parseHeaderLength(prefix: Uint8Array, fileSize: number, options: HeaderOptions = {}): number {
  const { subject = 'safetensors', limits } = options;
  const cap = limits?.headerBytes ?? defaultLimits.headerBytes;
  if (fileSize < PREFIX_BYTES || prefix.byteLength < PREFIX_BYTES) {
    throw formatError(subject, 'must have at least 8 bytes', String(Math.min(fileSize, prefix.byteLength)));
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(fileSize - PREFIX_BYTES)) {
    throw formatError(
      subject,
      `header must fit the file of ${fileSize} bytes`,
      `a length of ${length} (is the file complete?)`,
    );
  }
  if (length > BigInt(cap)) {
    throw new MoebiusError({
      code: 'limit',
      message: `${subject}: header must have at most ${cap} bytes, got ${length} (raise limits.headerBytes for a file you trust)`,
      details: { subject, limit: cap, got: Number(length) },
    });
  }
  return Number(length);
}

/**
 * Reads and checks a header.
 *
 * @param bytes - the file from its first byte, at least up to the end of the header; borrowed
 * @param fileSize - bytes of the whole file
 * @throws `format` on anything the format forbids, `limit` on more than the limits allow.
 */
export function parseHeader(
  bytes: Uint8Array,
  fileSize: number,
  options: HeaderOptions = {},
): SafetensorsHeader {
  const { subject = 'safetensors' } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const length = parseHeaderLength(bytes, fileSize, options);
  const dataStart = PREFIX_BYTES + length;
  if (bytes.byteLength < dataStart) {
    throw formatError(
      subject,
      `must be given all ${dataStart} bytes of the header`,
      String(bytes.byteLength),
    );
  }
  if (bytes[PREFIX_BYTES] !== 0x7b) {
    throw formatError(
      subject,
      'header must begin with "{"',
      length === 0 ? 'an empty header' : `byte ${bytes[PREFIX_BYTES]}`,
    );
  }
  const scanner = new JsonScanner(
    decodeUtf8(bytes.subarray(PREFIX_BYTES, dataStart), subject),
    `${subject} header`,
  );
  const metadata = new Map<string, string>();
  const tensors: TensorInfo[] = [];
  scanner.object((key) => {
    if (key === '__metadata__') {
      scanner.object((name) => metadata.set(name, scanner.string()));
      return;
    }
    if (tensors.length >= limits.tensors)
      throw scanner.fault(`must have at most ${limits.tensors} tensors`, 'more', 'limit');
    tensors.push(scanTensor(scanner, key, limits));
  });
  scanner.end();
  return { metadata, tensors: inFileOrder(tensors, fileSize - dataStart, subject), dataStart };
}

function scanTensor(scanner: JsonScanner, name: string, limits: Limits): TensorInfo {
  let dtype: DType | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  scanner.object((field) => {
    if (field === 'dtype') dtype = checkDType(scanner, name, scanner.string());
    else if (field === 'shape') shape = scanIntegers(scanner, limits.rank, 'limit');
    else if (field === 'data_offsets') offsets = scanIntegers(scanner, 2, 'format');
    else
      throw scanner.fault(`tensor ${quote(name)} must have dtype, shape and data_offsets only`, quote(field));
  });
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    const missing = [dtype ?? 'dtype', shape ?? 'shape', offsets ?? 'data_offsets'].filter(
      (field, at) => field === ['dtype', 'shape', 'data_offsets'][at],
    );
    throw scanner.fault(
      `tensor ${quote(name)} must have dtype, shape and data_offsets`,
      `no ${missing.join(', no ')}`,
    );
  }
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined || begin > end) {
    throw scanner.fault(
      `tensor ${quote(name)}: data_offsets must be [begin, end] in order`,
      `[${offsets.join(', ')}]`,
    );
  }
  const size = byteLength(dtype, shape);
  const form = `${dtype} [${shape.join(', ')}]`;
  if (size === undefined)
    throw scanner.fault(`tensor ${quote(name)}: shape must have a safe size in whole bytes`, form);
  if (size !== end - begin) {
    throw scanner.fault(`tensor ${quote(name)}: ${form} must span ${size} bytes`, String(end - begin));
  }
  return { name, dtype, shape, begin, end };
}

function scanIntegers(scanner: JsonScanner, limit: number, code: 'limit' | 'format'): number[] {
  const values: number[] = [];
  scanner.array(limit, () => values.push(scanner.integer()), code);
  return values;
}

function checkDType(scanner: JsonScanner, name: string, dtype: string): DType {
  if (isDType(dtype)) return dtype;
  const close = nearest(dtype, dtypes);
  const hint = close === undefined ? '' : ` (did you mean ${close}?)`;
  throw scanner.fault(
    `tensor ${quote(name)}: dtype must be one of ${dtypes.join(', ')}`,
    `${quote(dtype)}${hint}`,
  );
}

/** Checks that the ranges cover the data buffer exactly once, and orders the tensors by them. */
function inFileOrder(
  tensors: readonly TensorInfo[],
  dataBytes: number,
  subject: string,
): Map<string, TensorInfo> {
  const ordered = tensors.toSorted((a, b) => a.begin - b.begin || a.end - b.end);
  let expected = 0;
  for (const { name, begin, end } of ordered) {
    if (begin !== expected) {
      const fault = begin < expected ? 'an overlap' : 'a gap';
      throw formatError(
        subject,
        `tensor ${quote(name)} must begin at byte ${expected} of the data, where the one before it ends`,
        `${begin}: ${fault}`,
      );
    }
    expected = end;
  }
  if (expected !== dataBytes) {
    const fault = expected > dataBytes ? 'the file is cut short' : `${dataBytes - expected} trailing bytes`;
    throw formatError(
      subject,
      `tensors must end with the file, at byte ${dataBytes} of the data`,
      `${expected}: ${fault}`,
    );
  }
  return new Map(ordered.map((tensor) => [tensor.name, tensor]));
}

/**
 * Decodes UTF-8 and refuses what is not.
 *
 * @throws `format` on malformed bytes.
 */
export function decodeUtf8(bytes: Uint8Array, subject: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new MoebiusError({
      code: 'format',
      message: `${subject}: header must be valid UTF-8, got malformed bytes`,
      details: { subject },
      cause,
    });
  }
}

/** A name for a message: quoted, at most 80 characters. */
export function quote(name: string): string {
  const text = JSON.stringify(name);
  return text.length <= 80 ? text : `${text.slice(0, 79)}…"`;
}

/** An error about the content of a file. */
export function formatError(subject: string, expectation: string, got: string): MoebiusError {
  return new MoebiusError({
    code: 'format',
    message: `${subject}: ${expectation}, got ${got}`,
    details: { subject, got },
  });
}

/** Whether an error says that a file is not what it should be, rather than that it could not be read. */
export function isBadFile(error: unknown): boolean {
  return isMoebiusError(error, 'format') || isMoebiusError(error, 'limit');
}
