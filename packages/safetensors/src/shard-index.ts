/**
 * @file The index of a sharded model, `model.safetensors.index.json`: which file holds which tensor.
 *
 * A shard is a plain file name beside the index. Anything that could lead elsewhere is refused.
 */
import { MoebiusError } from '@moebius/core';

import { decodeUtf8, quote } from './header.ts';
import { JsonScanner } from './json-scanner.ts';

import { specByteLength, type TensorSpec } from './layout.ts';
import { defaultLimits, type Limits } from './limits.ts';

/** A checked index. */
export interface ShardIndex {
  /** Shard file by tensor name. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** Shard files, in order of first appearance. */
  readonly shards: readonly string[];
}

/**
 * Reads an index.
 *
 * @param bytes - the JSON; borrowed
 * @throws `format` on broken JSON, a missing `weight_map` or a shard that is no plain file name; `limit` on too much.
 */
export function parseShardIndex(
  bytes: Uint8Array,
  options: { readonly subject?: string; readonly limits?: Partial<Limits> } = {},
): ShardIndex {
  const { subject = 'index' } = options;
  const limits = { ...defaultLimits, ...options.limits };
  if (bytes.byteLength > limits.indexBytes) {
    throw new MoebiusError({
      code: 'limit',
      message: `${subject}: must have at most ${limits.indexBytes} bytes, got ${bytes.byteLength} (raise limits.indexBytes for a file you trust)`,
      details: { subject, limit: limits.indexBytes, got: bytes.byteLength },
    });
  }
  const scanner = new JsonScanner(decodeUtf8(bytes, subject), subject);
  let weightMap: Map<string, string> | undefined;
  const shards = new Set<string>();
  scanner.object((key) => {
    if (key !== 'weight_map') return scanner.skip();
    weightMap = new Map();
    const entries = weightMap;
    scanner.object((name) => {
      const shard = scanner.string();
      if (!isPlainShardName(shard)) {
        throw scanner.fault('a shard must be a plain .safetensors file name beside the index', quote(shard));
      }
      shards.add(shard);
      if (shards.size > limits.shards)
        throw scanner.fault(`must have at most ${limits.shards} shards`, 'more', 'limit');
      entries.set(name, shard);
    });
  });
  scanner.end();
  if (weightMap === undefined) throw scanner.fault('must have a weight_map', 'none');
  return { weightMap, shards: [...shards] };
}

/** Whether a name stays in its folder on every platform. */
export function isPlainShardName(name: string): boolean {
  return name.length <= 255 && /^[^/\\:\0]+\.safetensors$/.test(name) && !name.startsWith('..');
}

/** What one shard of a plan holds. */
export interface PlannedShard<T extends TensorSpec = TensorSpec> {
  /** Tensors, in the order given. */
  readonly tensors: readonly T[];
  /** Bytes of their data. */
  readonly byteLength: number;
}

/**
 * Divides tensors into shards of at most `maxShardBytes` of data, in the order given. A larger tensor has a shard alone.
 *
 * @throws `configuration` when the bound is not a positive number.
 */
export function planShards<T extends TensorSpec>(
  tensors: readonly T[],
  maxShardBytes: number,
): PlannedShard<T>[] {
  if (!(maxShardBytes > 0)) {
    throw new MoebiusError({
      code: 'configuration',
      message: `maxShardBytes: must be more than 0, got ${maxShardBytes}`,
      details: { maxShardBytes: String(maxShardBytes) },
    });
  }
  const shards: { tensors: T[]; byteLength: number }[] = [];
  for (const tensor of tensors) {
    const bytes = specByteLength(tensor);
    const open = shards.at(-1);
    if (open !== undefined && open.byteLength + bytes <= maxShardBytes) {
      open.tensors.push(tensor);
      open.byteLength += bytes;
    } else shards.push({ tensors: [tensor], byteLength: bytes });
  }
  return shards;
}

/** The JSON of an index, as Hugging Face writes it: sorted names, two spaces. */
export function formatShardIndex(
  weightMap: ReadonlyMap<string, string>,
  metadata: { readonly totalSize: number; readonly extra?: Readonly<Record<string, string>> },
): string {
  const entries = [...weightMap].toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const sections: [string, [string, string][]][] = [
    [
      'metadata',
      [...stringEntries(Object.entries(metadata.extra ?? {})), ['total_size', String(metadata.totalSize)]],
    ],
    ['weight_map', stringEntries(entries)],
  ];
  const text = sections.map(([name, lines]) => {
    const body = lines.map(([key, value]) => `    ${JSON.stringify(key)}: ${value}`).join(',\n');
    return `  ${JSON.stringify(name)}: {${body === '' ? '' : `\n${body}\n  `}}`;
  });
  return `{\n${text.join(',\n')}\n}\n`;
}

function stringEntries(entries: readonly (readonly [string, string])[]): [string, string][] {
  return entries.map(([key, value]) => [key, JSON.stringify(value)]);
}
