/**
 * @file Token shards on disk: a safetensors file, so that Python opens it. `tokens` is U16 or I32, `starts` and
 * `bytes` are I32, `tokenBytes`, where there is one, U16; the metadata name the tokenizer by its hash.
 */
import { MoebiusError } from '@moebius/core';
import { openSafetensors, writeSafetensors } from '@moebius/safetensors';
import type { TensorReader } from '@moebius/safetensors';

import type { TokenShard } from './token-shard.ts';

const format = 'moebius-token-shard-2';

/** Writes a shard, whole or not at all. Its folder must exist. */
export async function writeShard(shard: TokenShard, file: string): Promise<void> {
  const { tokens, starts, bytes, tokenBytes } = shard;
  const dtype = tokens instanceof Uint16Array ? 'U16' : 'I32';
  writeSafetensors(
    file,
    [
      { name: 'tokens', dtype, shape: [tokens.length], bytes: bytesOf(tokens) },
      { name: 'starts', dtype: 'I32', shape: [starts.length], bytes: bytesOf(starts) },
      { name: 'bytes', dtype: 'I32', shape: [bytes.length], bytes: bytesOf(bytes) },
      ...(tokenBytes === null
        ? []
        : [
            {
              name: 'tokenBytes',
              dtype: 'U16',
              shape: [tokenBytes.length],
              bytes: bytesOf(tokenBytes),
            } as const,
          ]),
    ],
    {
      metadata: { format, tokenizerHash: shard.tokenizerHash, vocabularySize: String(shard.vocabularySize) },
    },
  );
}

/**
 * Reads a shard.
 *
 * @throws `io` when it cannot be read, `format` when it is not a shard or its parts contradict each other
 */
export async function readShard(file: string): Promise<TokenShard> {
  const reader = openSafetensors(file);
  try {
    const metadata = (key: string): string => reader.metadata.get(key) ?? '';
    if (metadata('format') !== format) throw notAShard(file, `format "${metadata('format')}"`);
    const isShort = reader.info('tokens').dtype === 'U16';
    const tokenBytes = await reader.readBytesAsync('tokens');
    const tokens = isShort ? new Uint16Array(tokenBytes.buffer) : new Int32Array(tokenBytes.buffer);
    const shard: TokenShard = {
      tokens,
      starts: await readIntegers(reader, 'starts'),
      bytes: await readIntegers(reader, 'bytes'),
      tokenBytes: reader.has('tokenBytes')
        ? new Uint16Array((await reader.readBytesAsync('tokenBytes')).buffer)
        : null,
      vocabularySize: Number(metadata('vocabularySize')),
      tokenizerHash: metadata('tokenizerHash'),
    };
    assertConsistent(shard, file);
    return shard;
  } finally {
    reader.close();
  }
}

async function readIntegers(reader: TensorReader, name: string): Promise<Int32Array> {
  return new Int32Array((await reader.readBytesAsync(name)).buffer);
}

function assertConsistent(shard: TokenShard, file: string): void {
  const { tokens, starts, bytes, vocabularySize } = shard;
  if (starts.length !== bytes.length + 1)
    throw notAShard(file, `${starts.length} starts of ${bytes.length} documents`);
  if (starts[0] !== 0 || starts.at(-1) !== tokens.length)
    throw notAShard(file, 'documents that do not cover its tokens');
  for (let index = 1; index < starts.length; index++) {
    if ((starts[index] ?? 0) <= (starts[index - 1] ?? 0))
      throw notAShard(file, `document ${index - 1} without tokens`);
  }
  if (shard.tokenBytes !== null && shard.tokenBytes.length !== vocabularySize) {
    throw notAShard(file, `byte counts of ${shard.tokenBytes.length} ids of ${vocabularySize}`);
  }
  let largest = 0;
  let smallest = 0;
  for (const id of tokens) {
    if (id > largest) largest = id;
    if (id < smallest) smallest = id;
  }
  if (smallest < 0 || !(largest < vocabularySize))
    throw notAShard(file, `id ${smallest < 0 ? smallest : largest} of ${vocabularySize}`);
}

function notAShard(file: string, found: string): MoebiusError {
  return new MoebiusError({
    code: 'format',
    message: `${file}: must be a token shard, got ${found} (delete the file, it is made again)`,
    details: { file, found },
  });
}

function bytesOf(array: Uint16Array | Int32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
