/**
 * @file What simple methods reach on the same held-out documents, in bits per UTF-8 byte: the numbers that a trained
 * model is held against.
 */
import { gzipSync } from 'node:zlib';

import type { TokenShard } from '../data/token-shard.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { BigramCounts } from './bigram-counts.ts';
import { createBigramCounts } from './bigram-counts.ts';
import { fitKneserNey } from './kneser-ney.ts';

/** Bits per byte of held-out text. */
export interface Baselines {
  /** Each byte given the byte before it, trained on the whole training text. */
  readonly byteBigram: number;
  /** gzip level 9 over the held-out text. */
  readonly gzip: number;
  /** Token frequencies of the whole training text. */
  readonly tokenUnigram: number;
  /** Kneser-Ney token bigram on the whole training text. */
  readonly tokenBigram: number;
}

/** All baselines of a data set. */
export function computeBaselines(data: {
  readonly training: TokenShard;
  readonly heldOut: TokenShard;
  readonly tokenizer: Tokenizer;
}): Baselines {
  const { training, heldOut, tokenizer } = data;
  const counts = countShard(training);
  return {
    byteBigram: byteBigramBits(shardBytes(training, tokenizer), shardBytes(heldOut, tokenizer)),
    gzip: gzipBits(shardBytes(heldOut, tokenizer)),
    tokenUnigram: tokenUnigramBits(counts, heldOut),
    tokenBigram: kneserNeyBits(counts, heldOut),
  };
}

/** Counts of a whole shard, end-of-text included: what a model has seen after one epoch. */
export function countShard(shard: TokenShard): BigramCounts {
  const counts = createBigramCounts(shard.vocabularySize);
  counts.add(shard.tokens, shard.tokens.subarray(1));
  return counts;
}

/** Bits per byte of a Kneser-Ney token bigram with these counts. */
export function kneserNeyBits(counts: BigramCounts, heldOut: TokenShard): number {
  const model = fitKneserNey(counts);
  return bitsPerByte(heldOut, (previous, next) => model.probability(previous, next));
}

/** Bits per byte of token frequencies, each count one larger than seen so that no token is impossible. */
export function tokenUnigramBits(counts: BigramCounts, heldOut: TokenShard): number {
  const total = counts.total + counts.vocabularySize;
  return bitsPerByte(heldOut, (_, next) => ((counts.targets[next] ?? 0) + 1) / total);
}

/** Bits per byte of gzip at its strongest, header and trailer included. */
export function gzipBits(text: Uint8Array): number {
  return (gzipSync(text, { level: 9 }).length * 8) / text.length;
}

/** Bits per byte of a byte bigram; unseen pairs fall back on byte frequencies with the weight of one occurrence. */
export function byteBigramBits(training: Uint8Array, heldOut: Uint8Array): number {
  const single = new Float64Array(256).fill(1);
  for (const byte of training) single[byte] = (single[byte] ?? 0) + 1;
  const pairs = new Float64Array(256 * 256);
  const contexts = new Float64Array(256);
  for (let at = 1; at < training.length; at++) {
    const previous = training[at - 1] ?? 0;
    const key = previous * 256 + (training[at] ?? 0);
    pairs[key] = (pairs[key] ?? 0) + 1;
    contexts[previous] = (contexts[previous] ?? 0) + 1;
  }
  const total = training.length + 256;
  let bits = 0;
  for (const [at, byte] of heldOut.entries()) {
    const alone = (single[byte] ?? 0) / total;
    const previous = at === 0 ? undefined : heldOut[at - 1];
    const seen = previous === undefined ? 0 : (pairs[previous * 256 + byte] ?? 0);
    const context = previous === undefined ? 0 : (contexts[previous] ?? 0);
    bits -= Math.log2((seen + alone) / (context + 1));
  }
  return bits / heldOut.length;
}

/** The text of a shard as bytes, documents joined. */
export function shardBytes(shard: TokenShard, tokenizer: Tokenizer): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let index = 0; index < shard.bytes.length; index++) {
    const ids = shard.tokens.subarray((shard.starts[index] ?? 0) + 1, shard.starts[index + 1]);
    const isBytes = tokenizer.bytesOf(tokenizer.endOfTextId) !== undefined;
    if (isBytes) for (const id of ids) parts.push(tokenizer.bytesOf(id) ?? new Uint8Array(0));
    else parts.push(Buffer.from(tokenizer.decode(ids, { skipSpecialTokens: true }), 'utf8'));
  }
  return Buffer.concat(parts);
}

/** Sums the bits of every token of every document, end-of-text as the first context and never a target. */
function bitsPerByte(shard: TokenShard, probability: (previous: number, next: number) => number): number {
  let bits = 0;
  let bytes = 0;
  for (const [index, documentBytes] of shard.bytes.entries()) {
    const start = shard.starts[index] ?? 0;
    const end = shard.starts[index + 1] ?? 0;
    for (let at = start + 1; at < end; at++) {
      bits -= Math.log2(probability(shard.tokens[at - 1] ?? 0, shard.tokens[at] ?? 0));
    }
    bytes += documentBytes;
  }
  return bits / bytes;
}
