/**
 * @file Where the tensors of a file go: a plan of integers and the header's bytes, before anything is written.
 *
 * The order is the reference writer's: larger element types first (its `Dtype` order, reversed), then names by their
 * UTF-8 bytes; the header is padded with spaces to a multiple of 8. So every tensor is aligned to its element size,
 * and the same tensors give the same bytes as the Python library.
 */
import { byteLength, type DType, dtypes, isDType, MoebiusError } from '@moebius/core';

import { PREFIX_BYTES, quote, type TensorInfo } from './header.ts';
import { defaultLimits } from './limits.ts';

/** Name, type and shape of a tensor to be written. */
export interface TensorSpec {
  /** Unique in the file; valid Unicode; not `__metadata__`. */
  readonly name: string;
  /** Element type to store. */
  readonly dtype: DType;
  /** Shape; `[]` for a scalar. */
  readonly shape: readonly number[];
}

/** A file laid out. */
export interface Layout {
  /** Length, JSON and padding: the first bytes of the file. */
  readonly header: Uint8Array;
  /** Tensors in the order of their bytes. */
  readonly tensors: readonly TensorInfo[];
  /** Bytes of the whole file. */
  readonly fileSize: number;
}

/**
 * Lays out a file.
 *
 * @param specs - in any order
 * @param options - `metadata`: strings kept in the header, in the order given; `subject` for messages
 * @throws `data` on names or shapes that cannot be written, `limit` on a header no reader would take.
 */
export function planLayout(
  specs: readonly TensorSpec[],
  options: { readonly metadata?: Readonly<Record<string, string>>; readonly subject?: string } = {},
): Layout {
  const { metadata, subject = 'safetensors' } = options;
  assertNames(specs, subject);
  const entries: [string, unknown][] =
    metadata === undefined ? [] : [['__metadata__', checkMetadata(metadata, subject)]];
  const tensors: TensorInfo[] = [];
  let end = 0;
  for (const { name, dtype, shape } of sortSpecs(specs)) {
    const begin = end;
    end += specByteLength({ name, dtype, shape }, subject);
    tensors.push({ name, dtype, shape: [...shape], begin, end });
    entries.push([name, { dtype, shape, data_offsets: [begin, end] }]);
  }
  const json = `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
  const header = encodeHeader(json, subject);
  return { header, tensors, fileSize: header.byteLength + end };
}

/** Bytes of a tensor to be written. Throws `data` when its shape has no valid size. */
export function specByteLength(spec: TensorSpec, subject: string = 'safetensors'): number {
  const bytes = isDType(spec.dtype) ? byteLength(spec.dtype, spec.shape) : undefined;
  if (bytes !== undefined && spec.shape.length <= defaultLimits.rank) return bytes;
  throw new MoebiusError({
    code: 'data',
    message: `${subject}: tensor ${quote(spec.name)} must have a known type and a safe size in whole bytes, got ${spec.dtype} [${spec.shape.join(', ')}]`,
    details: { subject, name: spec.name, dtype: spec.dtype, shape: [...spec.shape] },
  });
}

function sortSpecs(specs: readonly TensorSpec[]): TensorSpec[] {
  const rank = new Map(dtypes.map((dtype, index) => [dtype, index]));
  const keyed = specs.map((spec) => ({
    spec,
    rank: rank.get(spec.dtype) ?? -1,
    key: Buffer.from(spec.name, 'utf8'),
  }));
  return keyed.toSorted((a, b) => b.rank - a.rank || Buffer.compare(a.key, b.key)).map(({ spec }) => spec);
}

function assertNames(specs: readonly TensorSpec[], subject: string): void {
  const seen = new Set<string>();
  for (const { name } of specs) {
    const fault = nameFault(name) ?? (seen.has(name) ? 'be unique' : undefined);
    if (fault !== undefined) {
      throw new MoebiusError({
        code: 'data',
        message: `${subject}: tensor names must ${fault}, got ${quote(name)}`,
        details: { subject, name },
      });
    }
    seen.add(name);
  }
}

function nameFault(name: string): string | undefined {
  if (name === '__metadata__') return 'not be the reserved one';
  return /\p{Surrogate}/u.test(name) ? 'be valid Unicode' : undefined;
}

function checkMetadata(metadata: Readonly<Record<string, string>>, subject: string): object {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value === 'string' && !/\p{Surrogate}/u.test(key + value)) continue;
    throw new MoebiusError({
      code: 'data',
      message: `${subject}: metadata ${quote(key)} must be valid Unicode text, got ${typeof value}`,
      details: { subject, key },
    });
  }
  return metadata;
}

function encodeHeader(json: string, subject: string): Uint8Array {
  const text = Buffer.from(json, 'utf8');
  const length = Math.ceil(text.byteLength / 8) * 8;
  if (length > defaultLimits.headerBytes) {
    throw new MoebiusError({
      code: 'limit',
      message: `${subject}: header must have at most ${defaultLimits.headerBytes} bytes, got ${length} (write shards)`,
      details: { subject, limit: defaultLimits.headerBytes, got: length },
    });
  }
  const header = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(text, PREFIX_BYTES);
  return header;
}
