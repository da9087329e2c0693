import { countTensors, readHostSync } from '@moebius/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createRotaryHolder, planPositions } from '../src/rotary-holder.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig } from './tiny-model.ts';

await prepareEngine();

describe('createRotaryHolder', () => {
  it('grows by doubling, never beyond max_position_embeddings, and keeps angles', () => {
    const before = countTensors();
    const holder = createRotaryHolder(tinyConfig({ max_position_embeddings: 5000 }));
    const first = holder.tableFor(3);
    expect(first.cos.shape).toEqual([256, 2]);
    const angles = Float32Array.from(readHostSync(first.sin));
    expect(holder.tableFor(256)).toBe(first);
    const second = holder.tableFor(257);
    expect(second.cos.shape[0]).toBe(512);
    expect(readHostSync(second.sin).subarray(0, angles.length)).toEqual(angles);
    expect(holder.tableFor(4999).cos.shape[0]).toBe(4999);
    expect(holder.tableFor(5000).cos.shape[0]).toBe(5000);
    expect(countTensors()).toBe(before + 2);
    holder.dispose();
    expect(countTensors()).toBe(before);
  });

  it('turns component i by position times theta^(-2i/C)', () => {
    const holder = createRotaryHolder(tinyConfig({ rope_theta: 100 }));
    const { cos, sin } = holder.tableFor(8);
    for (const [position, i] of [
      [0, 0],
      [5, 0],
      [7, 1],
    ] as const) {
      const angle = position * 100 ** ((-2 * i) / 4);
      expect(readHostSync(cos)[2 * position + i]).toBeCloseTo(Math.cos(angle), 5);
      expect(readHostSync(sin)[2 * position + i]).toBeCloseTo(Math.sin(angle), 5);
    }
    holder.dispose();
  });
});

describe('planPositions', () => {
  const config = tinyConfig();

  it('counts on from what each sequence holds', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 1, max: 8 }),
        (lengths, rows) => {
          const { positions, end } = planPositions(lengths.length * rows, lengths, config);
          const expected = lengths.flatMap((length) =>
            Array.from({ length: rows }, (_, row) => length + row),
          );
          expect([...positions]).toEqual(expected);
          expect(end).toBe(Math.max(...expected) + 1);
        },
      ),
    );
  });

  it('refuses sequences beyond the table and uneven batches', () => {
    expect(() => planPositions(2, [63, 0], config)).not.toThrow();
    expect(() => planPositions(2, [64, 0], config)).toThrow(
      'at most max_position_embeddings 64 tokens, got 65',
    );
    expect(() => planPositions(3, [0, 0], config)).toThrow('each of 2 sequences, got 3');
    expect(() => planPositions(0, [0], config)).toThrow('got 0');
  });
});
