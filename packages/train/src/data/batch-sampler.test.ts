import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createBatchSampler } from './batch-sampler.ts';
import type { TokenShard } from './token-shard.ts';

/** A shard whose every token is its own position, so that a row shows where it was taken from. */
function countingShard(tokens: number): TokenShard {
  return {
    tokens: Int32Array.from({ length: tokens }, (_, index) => index),
    starts: Int32Array.of(0, tokens),
    bytes: Int32Array.of(tokens),
    tokenBytes: null,
    vocabularySize: tokens,
    tokenizerHash: '',
  };
}

const setting = fc.record({
  tokens: fc.integer({ min: 20, max: 200 }),
  length: fc.integer({ min: 1, max: 19 }),
  seed: fc.integer(),
});

describe('createBatchSampler', () => {
  it('visits no token twice in an epoch, and leaves out less than one row', () => {
    fc.assert(
      fc.property(setting, fc.integer({ min: 0, max: 3 }), ({ tokens, length, seed }, epoch) => {
        const sampler = createBatchSampler(countingShard(tokens), { length, seed });
        const { ids } = sampler.rows(epoch * sampler.rowsPerEpoch, sampler.rowsPerEpoch);
        expect(new Set(ids).size).toBe(ids.length);
        expect(tokens - ids.length).toBeGreaterThan(0);
        expect(tokens - ids.length).toBeLessThanOrEqual(length);
      }),
    );
  });

  it('gives the token that follows each id as its target', () => {
    fc.assert(
      fc.property(setting, ({ tokens, length, seed }) => {
        const sampler = createBatchSampler(countingShard(tokens), { length, seed });
        const { ids, targets } = sampler.rows(1, 5);
        expect([...targets]).toEqual(Array.from(ids, (id) => (id + 1) % tokens));
      }),
    );
  });

  it('gives a row by its position alone, however it is asked for', () => {
    fc.assert(
      fc.property(setting, fc.integer({ min: 0, max: 300 }), ({ tokens, length, seed }, first) => {
        const shard = countingShard(tokens);
        const whole = createBatchSampler(shard, { length, seed }).rows(first, 4);
        const other = createBatchSampler(shard, { length, seed });
        const parts = [3, 0, 2, 1].map((row) => ({ row, ids: other.rows(first + row, 1).ids }));
        for (const { row, ids } of parts)
          expect(ids).toEqual(whole.ids.slice(row * length, (row + 1) * length));
      }),
    );
  });

  it('orders epochs and seeds differently', () => {
    const shard = countingShard(1000);
    const order = (seed: number, epoch: number): number[] => {
      const sampler = createBatchSampler(shard, { length: 10, seed });
      return [...sampler.rows(epoch * sampler.rowsPerEpoch, sampler.rowsPerEpoch).ids];
    };
    expect(order(1, 0)).not.toEqual(order(1, 1));
    expect(order(1, 0)).not.toEqual(order(2, 0));
  });

  it('refuses text shorter than a row', () => {
    expect(() => createBatchSampler(countingShard(16), { length: 16, seed: 0 })).toThrow(
      /training text: must have at least 17 tokens for a sequence of 16, got 16 \(add text, or shorten batch.length\)/,
    );
  });
});
