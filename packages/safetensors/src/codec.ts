/**
 * @file Between stored element types and the typed arrays that TensorFlow.js takes.
 *
 * float32 for every float, int32 for every integer that fits, one byte per boolean. 64-bit integers that do not fit
 * stay big; F64 is narrowed only when the caller allows the loss. Assumes a little-endian machine, which every
 * platform with TensorFlow.js native or wasm is.
 */
import { byteLength, type DType, elementCount, MoebiusError } from '@moebius/core';

import {
  decodeBf16Into,
  decodeBitsInto,
  decodeBytesInto,
  decodeF16Into,
  firstNonBoolean,
  type MiniFloat,
  miniFloatTable,
  narrowToInt32,
  powerTable,
  widenInto,
} from './decode.kernel.ts';
import { encodeBf16, encodeF16, firstOutside } from './encode.kernel.ts';

/** The decoded elements, tagged by their type. */
export type TensorData =
  | { readonly dtype: 'float32'; readonly data: Float32Array }
  | { readonly dtype: 'int32'; readonly data: Int32Array }
  /** One byte per element, 0 or 1. */
  | { readonly dtype: 'bool'; readonly data: Uint8Array }
  /** Real and imaginary parts in turn: twice as many numbers as elements. */
  | { readonly dtype: 'complex64'; readonly data: Float32Array }
  | { readonly dtype: 'int64'; readonly data: BigInt64Array }
  | { readonly dtype: 'uint64'; readonly data: BigUint64Array };

/** A decoded tensor; the caller owns `data`. */
export type TensorValue = TensorData & {
  /** Element type in the file. */
  readonly stored: DType;
  /** Row-major shape. */
  readonly shape: readonly number[];
};

/** What can be encoded. */
export type EncodableData = Float32Array | Int32Array | Uint8Array | BigInt64Array | BigUint64Array;

/** How to decode. */
export interface DecodeOptions {
  /** Narrow F64 to float32. Without it, reading F64 throws. */
  readonly allowLossy?: boolean;
}

/** Where the buffer of a decoded tensor comes from. */
export type Allocate = (byteLength: number) => ArrayBuffer;

/** Asks for a tensor's bytes; they are written into `target`. */
export type FillBytes = (target: Uint8Array) => void;

/** A buffer that is being filled, and what to do when it is. */
export interface DecodePlan {
  /** Put the packed bytes here. */
  readonly target: Uint8Array;
  /** Decodes in place. */
  finish(): TensorValue;
}

const MINI_FLOATS: ReadonlyMap<DType, MiniFloat> = new Map([
  ['F8_E5M2', { exponentBits: 5, mantissaBits: 2, bias: 15, special: 'ieee' }],
  ['F8_E4M3', { exponentBits: 4, mantissaBits: 3, bias: 7, special: 'fn' }],
  ['F8_E4M3FNUZ', { exponentBits: 4, mantissaBits: 3, bias: 8, special: 'fnuz' }],
  ['F8_E5M2FNUZ', { exponentBits: 5, mantissaBits: 2, bias: 16, special: 'fnuz' }],
  ['F6_E2M3', { exponentBits: 2, mantissaBits: 3, bias: 1, special: 'finite' }],
  ['F6_E3M2', { exponentBits: 3, mantissaBits: 2, bias: 3, special: 'finite' }],
  ['F4', { exponentBits: 2, mantissaBits: 1, bias: 1, special: 'finite' }],
]);

/**
 * Prepares to decode: one buffer, the packed bytes at its end, decoded in place.
 *
 * @param tensor - stored type and shape, already checked
 * @throws `data` for F64 without `allowLossy`.
 */
export function planDecode(
  tensor: { readonly dtype: DType; readonly shape: readonly number[]; readonly subject: string },
  options: DecodeOptions & { readonly allocate?: Allocate } = {},
): DecodePlan {
  const { dtype, shape, subject } = tensor;
  const { allocate = (bytes: number) => new ArrayBuffer(bytes) } = options;
  const count = elementCount(shape) ?? 0;
  const packed = byteLength(dtype, shape) ?? 0;
  if (dtype === 'F64' && options.allowLossy !== true) {
    throw new MoebiusError({
      code: 'data',
      message: `${subject}: must be of at most 32 bits to be read as float32, got F64 (pass allowLossy: true to round)`,
      details: { subject, dtype },
    });
  }
  const buffer = allocate(dtype === 'BOOL' ? packed : Math.max(packed, 4 * count));
  const target = new Uint8Array(buffer, buffer.byteLength - packed, packed);
  return {
    target,
    finish: () => ({ ...decodeInPlace(target, { dtype, count, subject }), stored: dtype, shape: [...shape] }),
  };
}

/** Decodes the packed bytes at the end of their buffer into the start of it. */
function decodeInPlace(
  target: Uint8Array,
  tensor: { readonly dtype: DType; readonly count: number; readonly subject: string },
): TensorData {
  const { dtype, count } = tensor;
  const buffer = target.buffer as ArrayBuffer;
  const at = target.byteOffset;
  switch (dtype) {
    case 'F32':
      return { dtype: 'float32', data: new Float32Array(buffer, at, count) };
    case 'C64':
      return { dtype: 'complex64', data: new Float32Array(buffer, at, 2 * count) };
    case 'I32':
      return { dtype: 'int32', data: new Int32Array(buffer, at, count) };
    case 'F64':
      return { dtype: 'float32', data: Float32Array.from(new Float64Array(buffer, at, count)) };
    case 'BOOL':
      return decodeBoolean(target, tensor.subject);
    case 'U8':
      return widen(buffer, count, target);
    case 'I8':
      return widen(buffer, count, new Int8Array(buffer, at, count));
    case 'U16':
      return widen(buffer, count, new Uint16Array(buffer, at, count));
    case 'I16':
      return widen(buffer, count, new Int16Array(buffer, at, count));
    case 'U32':
      return narrow32(new Uint32Array(buffer, at, count));
    case 'I64':
      return narrow64(new BigInt64Array(buffer, at, count));
    case 'U64':
      return narrow64(new BigUint64Array(buffer, at, count));
    default:
      return { dtype: 'float32', data: decodeFloat(target, dtype, count) };
  }
}

function decodeFloat(target: Uint8Array, dtype: DType, count: number): Float32Array {
  const out = new Float32Array(target.buffer as ArrayBuffer, 0, count);
  if (dtype === 'BF16') decodeBf16Into(out, new Uint16Array(target.buffer, target.byteOffset, count));
  else if (dtype === 'F16') decodeF16Into(out, new Uint16Array(target.buffer, target.byteOffset, count));
  else if (dtype === 'F8_E8M0') decodeBytesInto(out, target, powerTable());
  else {
    const format = MINI_FLOATS.get(dtype);
    if (format === undefined)
      throw new MoebiusError({ code: 'internal', message: `internal: no decoder for ${dtype}` });
    const width = 1 + format.exponentBits + format.mantissaBits;
    const table = miniFloatTable(format);
    if (width === 8) decodeBytesInto(out, target, table);
    else decodeBitsInto(out, target, { width, table });
  }
  return out;
}

function widen(buffer: ArrayBuffer, count: number, packed: Parameters<typeof widenInto>[1]): TensorData {
  const data = new Int32Array(buffer, 0, count);
  widenInto(data, packed);
  return { dtype: 'int32', data };
}

function narrow32(values: Uint32Array): TensorData {
  const data = narrowToInt32(values);
  return data === undefined
    ? { dtype: 'int64', data: BigInt64Array.from(values, BigInt) }
    : { dtype: 'int32', data };
}

function narrow64(values: BigInt64Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>): TensorData {
  const data = narrowToInt32(values);
  if (data !== undefined) return { dtype: 'int32', data };
  return values instanceof BigInt64Array
    ? { dtype: 'int64', data: values }
    : { dtype: 'uint64', data: values };
}

function decodeBoolean(bytes: Uint8Array, subject: string): TensorData {
  const at = firstNonBoolean(bytes);
  if (at < 0) return { dtype: 'bool', data: bytes };
  throw new MoebiusError({
    code: 'format',
    message: `${subject}: BOOL bytes must be 0 or 1, got ${bytes[at]} at element ${at}`,
    details: { subject, at, got: bytes[at] ?? -1 },
  });
}

/**
 * Decodes packed bytes.
 *
 * @param bytes - little-endian, exactly the size of type and shape; borrowed, any alignment
 * @returns caller owns
 * @throws `shape` when the size does not match; `format` on a bad boolean; `data` for F64 without `allowLossy`.
 */
export function decodeTensor(
  bytes: Uint8Array,
  tensor: { readonly dtype: DType; readonly shape: readonly number[] },
  options: DecodeOptions = {},
): TensorValue {
  assertByteLength(bytes.byteLength, tensor, 'tensor');
  const plan = planDecode({ ...tensor, subject: 'tensor' }, options);
  plan.target.set(bytes);
  return plan.finish();
}

/**
 * Encodes elements as stored bytes. Floats round to nearest even; integers must fit.
 *
 * @param data - exactly the elements of `shape`; borrowed. F32, C64 (pairs), BF16 and F16 take a `Float32Array`; I32, U8,
 *   BOOL and I64 an `Int32Array`; U8 and BOOL also a `Uint8Array`; I64 and U64 also big integers
 * @param tensor - type and shape to store
 * @returns the bytes; a view of `data` itself where nothing changes, so do not write to it
 * @throws `data` when the type cannot hold the elements, `shape` when their number is wrong.
 */
export function encodeTensor(
  data: EncodableData,
  tensor: { readonly dtype: DType; readonly shape: readonly number[]; readonly subject?: string },
): Uint8Array {
  const { dtype, subject = 'tensor' } = tensor;
  const encoded = encodeElements(data, dtype, subject);
  const bytes = new Uint8Array(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  assertByteLength(bytes.byteLength, tensor, subject);
  return bytes;
}

function encodeElements(data: EncodableData, dtype: DType, subject: string): ArrayBufferView {
  if (data instanceof Float32Array) {
    if (dtype === 'F32' || dtype === 'C64') return data;
    if (dtype === 'BF16') return encodeBf16(data);
    if (dtype === 'F16') return encodeF16(data);
  } else if (data instanceof Int32Array) {
    if (dtype === 'I32') return data;
    if (dtype === 'I64') return BigInt64Array.from(data, BigInt);
    if (dtype === 'U8' || dtype === 'BOOL') return Uint8Array.from(assertRange(data, dtype, subject));
  } else if (data instanceof Uint8Array) {
    if (dtype === 'U8' || dtype === 'BOOL') return assertRange(data, dtype, subject);
  } else if (
    (dtype === 'I64' && data instanceof BigInt64Array) ||
    (dtype === 'U64' && data instanceof BigUint64Array)
  ) {
    return data;
  }
  throw new MoebiusError({
    code: 'data',
    message: `${subject}: elements must be of a kind that ${dtype} is encoded from, got ${data.constructor.name} (convert it, or pass the packed bytes as { bytes })`,
    details: { subject, dtype, got: data.constructor.name },
  });
}

function assertRange<T extends Int32Array | Uint8Array>(data: T, dtype: 'U8' | 'BOOL', subject: string): T {
  const range = { low: 0, high: dtype === 'BOOL' ? 1 : 255 };
  const at = firstOutside(data, range);
  if (at < 0) return data;
  throw new MoebiusError({
    code: 'data',
    message: `${subject}: elements of ${dtype} must be integers in [0, ${range.high}], got ${data[at]} at element ${at}`,
    details: { subject, dtype, at, got: data[at] ?? null },
  });
}

/**
 * Checks a number of bytes against type and shape.
 *
 * @throws `shape` when it does not match.
 */
export function assertByteLength(
  bytes: number,
  tensor: { readonly dtype: DType; readonly shape: readonly number[] },
  subject: string,
): void {
  const expected = byteLength(tensor.dtype, tensor.shape);
  if (expected === bytes) return;
  const form = `${tensor.dtype} [${tensor.shape.join(', ')}]`;
  throw new MoebiusError({
    code: 'shape',
    message:
      expected === undefined
        ? `${subject}: shape must have a safe size in whole bytes, got ${form}`
        : `${subject}: ${form} must have ${expected} bytes, got ${bytes}`,
    details: { subject, dtype: tensor.dtype, shape: [...tensor.shape], bytes },
  });
}
