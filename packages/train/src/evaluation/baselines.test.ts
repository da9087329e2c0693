import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { packDocuments } from '../data/token-shard.ts';
import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { trainTokenizer } from '../tokenizer/train-tokenizer.ts';
import {
  byteBigramBits,
  computeBaselines,
  countShard,
  gzipBits,
  kneserNeyBits,
  shardBytes,
} from './baselines.ts';
import { createBigramCounts } from './bigram-counts.ts';
import { fitKneserNey } from './kneser-ney.ts';

const read = (name: string): string =>
  readFileSync(join(import.meta.dirname, '../../test/__fixtures__', name), 'utf8');
const lincoln = read('lincoln-1862.txt');
const half = lincoln.length / 2;
const tokenizer = createTokenizer(trainTokenizer([lincoln.slice(0, half)], { vocabularySize: 400 }));
const training = packDocuments([{ name: 'first', text: lincoln.slice(0, half) }], tokenizer);
const heldOut = packDocuments([{ name: 'second', text: lincoln.slice(half) }], tokenizer);

describe('fitKneserNey', () => {
  it('gives a distribution for every context, seen or not', () => {
    const sequences = fc.array(fc.array(fc.integer({ min: 0, max: 11 }), { maxLength: 60 }), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(sequences, (lists) => {
        const counts = createBigramCounts(12);
        for (const list of lists) counts.add(list, list.slice(1));
        const model = fitKneserNey(counts);
        for (let previous = 0; previous < 12; previous++) {
          let sum = 0;
          for (let next = 0; next < 12; next++) {
            const probability = model.probability(previous, next);
            expect(probability).toBeGreaterThan(0);
            sum += probability;
          }
          expect(sum).toBeCloseTo(1, 10);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('follows the formula on counts worked out by hand', () => {
    // Pairs: 0→1 three times, 0→2 once, 1→0 twice, 2→0 once, 1→2 once. Counts of counts: n1 = 3, n2 = 1, n3 = 1, n4 = 0.
    const counts = createBigramCounts(3);
    counts.add([0, 0, 0, 0, 1, 1, 2, 1], [1, 1, 1, 2, 0, 0, 0, 2]);
    const y = 3 / (3 + 2 * 1);
    const [d1, d2, d3] = [1 - (2 * y * 1) / 3, Math.max(2 - (3 * y * 1) / 1, 0.1), Math.min(3 - 0, 0.95 * 3)];
    // Continuations: token 0 follows {1, 2}, 1 follows {0}, 2 follows {0, 1}: m1 = 1, m2 = 2.
    const z = 1 / (1 + 2 * 2);
    const [e1, e2] = [Math.max(1 - (2 * z * 2) / 1, 0.1), 0.95 * 2];
    const lower = [2 - e2, 1 - e1, 2 - e2].map((kept) => (kept + (2 * e2 + e1) / 3) / 5);
    const model = fitKneserNey(counts);
    expect(model.probability(0, 1)).toBeCloseTo((3 - d3 + (d3 + d1) * (lower[1] ?? 0)) / 4, 12);
    expect(model.probability(0, 0)).toBeCloseTo(((d3 + d1) * (lower[0] ?? 0)) / 4, 12);
    expect(model.probability(1, 0)).toBeCloseTo((2 - d2 + (d2 + d1) * (lower[0] ?? 0)) / 3, 12);
  });
});

describe('baselines', () => {
  it('orders the methods as expected on real text', () => {
    const bits = computeBaselines({ training, heldOut, tokenizer });
    expect(bits.tokenBigram).toBeLessThan(bits.tokenUnigram);
    expect(bits.tokenUnigram).toBeLessThan(4.5);
    expect(bits.byteBigram).toBeGreaterThan(2.5);
    expect(bits.byteBigram).toBeLessThan(4.5);
  });

  it('improves the token bigram as more tokens are seen', () => {
    const few = createBigramCounts(training.vocabularySize);
    few.add(training.tokens.subarray(0, 200), training.tokens.subarray(1, 201));
    expect(kneserNeyBits(countShard(training), heldOut)).toBeLessThan(kneserNeyBits(few, heldOut) - 0.1);
  });

  it('costs log2 V bits a token before anything was seen', () => {
    const bits = kneserNeyBits(createBigramCounts(training.vocabularySize), heldOut);
    const tokens = heldOut.tokens.length - 1;
    expect(bits).toBeCloseTo(
      (Math.log2(training.vocabularySize) * tokens) / Buffer.byteLength(lincoln.slice(half)),
      10,
    );
  });

  it('sees the held-out text itself', () => {
    expect(Buffer.from(shardBytes(heldOut, tokenizer)).toString('utf8')).toBe(lincoln.slice(half));
  });

  it('charges gzip for what it writes, and little for what it repeats', () => {
    const text = Buffer.from(lincoln);
    const twice = Buffer.concat([text, text]);
    expect(gzipBits(text)).toBeGreaterThan(3);
    expect(gzipBits(text)).toBeLessThan(5);
    expect(gzipBits(twice)).toBeLessThan(gzipBits(text) * 0.55);
  });

  it('gives byte probabilities that sum to 1 in every context', () => {
    const text = Buffer.from('abracadabra');
    for (const context of ['a', 'b', 'z']) {
      let sum = 0;
      for (let byte = 0; byte < 256; byte++) {
        const two = byteBigramBits(text, Buffer.from([context.charCodeAt(0), byte])) * 2;
        const one = byteBigramBits(text, Buffer.from(context));
        sum += 2 ** -(two - one);
      }
      expect(sum).toBeCloseTo(1, 10);
    }
  });
});
