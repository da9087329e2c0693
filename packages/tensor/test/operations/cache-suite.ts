/** @file The KV cache against plain arrays, and attention over it against attention over whole sequences. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { attentionForward, cachedAttention, createKvCache, disposeTree, tensor2d } from '../../src/index.ts';
import type { KvCache, Tensor2D } from '../../src/index.ts';
import { attendRow, sampleMatrix, toMatrix } from '../../src/testing/index.ts';
import type { Matrix } from '../../src/testing/index.ts';
import { list } from './pair-suite.ts';
import { withPortableBodies } from './portable-bodies.ts';

const width = 6;

/** What a cache must hold: per sequence, rows of keys (values are their negatives). */
type Model = Matrix[];

function rowsFor(batch: number, rows: number, seed: number): Tensor2D {
  return sampleMatrix(batch * rows, width, `rows ${seed}`);
}

function appendBoth(cache: KvCache, model: Model, rows: number, seed: number): void {
  const keys = rowsFor(model.length, rows, seed);
  const host = toMatrix(keys);
  const values = tensor2d(
    host.flat().map((x) => -x),
    keys.shape,
  );
  cache.append(0, keys, values);
  for (const [b, sequence] of model.entries()) sequence.push(...host.slice(b * rows, (b + 1) * rows));
  disposeTree([keys, values]);
}

function expectSame(cache: KvCache, model: Model): void {
  const { keys, values, lengths } = cache.view(0);
  expect([...lengths]).toEqual(model.map((sequence) => sequence.length));
  const slots = keys.shape[1];
  const [k, v] = [list(keys), list(values)];
  for (const [b, sequence] of model.entries()) {
    const start = b * slots * width;
    const filled = sequence.flat();
    expect(k.slice(start, start + filled.length)).toEqual(filled);
    expect(v.slice(start, start + filled.length)).toEqual(filled.map((x) => -x));
  }
}

type Command =
  | { kind: 'append'; rows: number }
  | { kind: 'truncate'; lengths: number[] }
  | { kind: 'truncateAll'; length: number }
  | { kind: 'fork' }
  | { kind: 'gather'; pick: number[] };

const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({ kind: fc.constant('append' as const), rows: fc.integer({ min: 1, max: 40 }) }),
  fc.record({
    kind: fc.constant('truncate' as const),
    lengths: fc.array(fc.nat(90), { minLength: 4, maxLength: 4 }),
  }),
  fc.record({ kind: fc.constant('truncateAll' as const), length: fc.nat(90) }),
  fc.record({ kind: fc.constant('fork' as const) }),
  fc.record({
    kind: fc.constant('gather' as const),
    pick: fc.array(fc.nat(), { minLength: 1, maxLength: 4 }),
  }),
);

function obey(order: Command, cache: KvCache, model: Model, seed: number): { cache: KvCache; model: Model } {
  const batch = model.length;
  switch (order.kind) {
    case 'append':
      if (Math.max(...model.map((s) => s.length)) + order.rows <= 200)
        appendBoth(cache, model, order.rows, seed);
      return { cache, model };
    case 'truncate':
      cache.truncate(Int32Array.from(order.lengths.slice(0, batch)));
      return { cache, model: model.map((s, b) => s.slice(0, order.lengths[b])) };
    case 'truncateAll':
      cache.truncate(order.length);
      return { cache, model: model.map((s) => s.slice(0, order.length)) };
    case 'fork': {
      const fork = cache.fork();
      const copy = model.map((s) => [...s]);
      appendBoth(fork, copy, 3, seed + 1000);
      expectSame(fork, copy);
      fork.dispose();
      return { cache, model };
    }
    case 'gather': {
      const pick = order.pick.map((p) => p % batch);
      cache.gather(Int32Array.from(pick));
      return { cache, model: pick.map((b) => [...model[b]!]) };
    }
  }
}

export function describeCache(): void {
  describe('the KV cache', () => {
    it('holds what plain arrays hold after any sequence of commands', () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 3 }),
          fc.array(command, { maxLength: 8 }),
          (batch, commands) => {
            let cache = createKvCache({ layers: 1, batch, positions: 240, kvHeads: 2, headSize: 3 });
            let model: Model = Array.from({ length: batch }, () => []);
            for (const [seed, order] of commands.entries()) {
              ({ cache, model } = obey(order, cache, model, seed));
              expectSame(cache, model);
            }
            cache.dispose();
          },
        ),
        { seed: 9, numRuns: 40 },
      );
    });

    it('keeps layers apart and refuses more than its positions', () => {
      const cache = createKvCache({ layers: 2, batch: 1, positions: 5, kvHeads: 2, headSize: 3 });
      const rows = sampleMatrix(3, width, 'rows');
      const narrow = sampleMatrix(3, width - 1, 'narrow');
      cache.append(1, rows, rows);
      expect([...cache.lengths(0)]).toEqual([0]);
      expect([...cache.lengths(1)]).toEqual([3]);
      expect(() => cache.append(1, rows, rows)).toThrow(/at most 5 positions, got 3 \+ 3/);
      expect(() => cache.view(2)).toThrow(/\[0, 2\), got 2/);
      expect(() => cache.append(0, rows, narrow)).toThrow(/must be 6, got 5/);
      cache.dispose();
      expect(() => cache.view(0)).toThrow(/after dispose/);
      disposeTree([rows, narrow]);
    });

    it('rejects sizes that are not positive integers', () => {
      const good = { layers: 1, batch: 1, positions: 5, kvHeads: 2, headSize: 3 };
      expect(() => createKvCache({ ...good, batch: 0 })).toThrow(/batch: must be a positive integer, got 0/);
    });
  });
  describeCachedAttention();
}

function describeCachedAttention(): void {
  const heads = { heads: 4, kvHeads: 2 };
  const z = 12;

  describe('cachedAttention', () => {
    it('equals attention over the whole sequence, however the rows are split into steps', () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 3 }),
          fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
          (batch, steps) => {
            const sequence = steps.reduce((a, b) => a + b);
            const [q, k, v] = [z, width, width].map((w, i) => sampleMatrix(batch * sequence, w, i)) as [
              Tensor2D,
              Tensor2D,
              Tensor2D,
            ];
            const whole = attentionForward(q, k, v, { batch, ...heads });
            const expected = toMatrix(whole.value);
            const cache = createKvCache({ layers: 1, batch, positions: 64, kvHeads: 2, headSize: 3 });
            let begin = 0;
            for (const rows of steps) {
              const [qn, kn, vn] = [q, k, v].map((x) => pickRows(x, batch, begin, rows)) as [
                Tensor2D,
                Tensor2D,
                Tensor2D,
              ];
              cache.append(0, kn, vn);
              const y = cachedAttention(qn, cache.view(0), heads);
              const own = Array.from({ length: batch }, (_, b) =>
                expected.slice(b * sequence + begin, b * sequence + begin + rows),
              ).flat();
              expect(y).toBeAllClose(own, { rtol: 2e-4, atol: 2e-5 });
              begin += rows;
              disposeTree([qn, kn, vn, y]);
            }
            cache.dispose();
            disposeTree([q, k, v, whole]);
          },
        ),
        { seed: 3, numRuns: 15 },
      );
    });

    it('lets a tail mask decide inside the tail, with sequences of different lengths', () => {
      const lengths = [7, 4];
      const rows = 3;
      // A tree: row 1 and row 2 are both children of row 0.
      const tailMask = [1, 0, 0, 1, 1, 0, 1, 0, 1];
      const cache = createKvCache({ layers: 1, batch: 2, positions: 16, kvHeads: 2, headSize: 3 });
      const first = [sampleMatrix(12, width, 'k'), sampleMatrix(12, width, 'v')] as const;
      cache.append(0, ...first);
      cache.truncate(Int32Array.from(lengths.map((length) => length - rows)));
      const tail = [sampleMatrix(2 * rows, width, 'kt'), sampleMatrix(2 * rows, width, 'vt')] as const;
      cache.append(0, ...tail);
      const q = sampleMatrix(2 * rows, z, 'q');
      const run = (): number[] => {
        const y = cachedAttention(q, cache.view(0), { ...heads, tailMask, scale: 0.7 });
        const numbers = list(y);
        y.dispose();
        return numbers;
      };
      const expected = toMatrix(q).flatMap((row, r) => {
        const b = Math.floor(r / rows);
        const i = r % rows;
        const keep = lengths[b]! - rows;
        const stack = (old: Tensor2D, fresh: Tensor2D): Matrix => [
          ...toMatrix(old).slice(b * 6, b * 6 + keep),
          ...toMatrix(fresh)
            .slice(b * rows, (b + 1) * rows)
            .filter((_, j) => tailMask[i * rows + j] === 1),
        ];
        const [keys, values] = [stack(first[0], tail[0]), stack(first[1], tail[1])];
        return attendRow(row, keys, values, { ...heads, scale: 0.7 });
      });
      expect(run()).toBeAllClose(expected, { rtol: 2e-4, atol: 2e-5 });
      expect(withPortableBodies(run)).toBeAllClose(expected, { rtol: 2e-4, atol: 2e-5 });
      cache.dispose();
      disposeTree([first, tail, q]);
    });

    it('lets positions hide later slots', () => {
      const cache = createKvCache({ layers: 1, batch: 1, positions: 16, kvHeads: 2, headSize: 3 });
      const [k, v, q] = [sampleMatrix(5, width, 'k'), sampleMatrix(5, width, 'v'), sampleMatrix(1, z, 'q')];
      cache.append(0, k!, v!);
      const run = (): number[] => {
        const y = cachedAttention(q!, cache.view(0), { ...heads, positions: Int32Array.of(2) });
        const numbers = list(y);
        y.dispose();
        return numbers;
      };
      const scale = 1 / Math.sqrt(3);
      const expected = attendRow(toMatrix(q!)[0]!, toMatrix(k!).slice(0, 3), toMatrix(v!).slice(0, 3), {
        ...heads,
        scale,
      });
      expect(run()).toBeAllClose(expected, { rtol: 2e-4, atol: 2e-5 });
      expect(withPortableBodies(run)).toBeAllClose(expected, { rtol: 2e-4, atol: 2e-5 });
      cache.dispose();
      disposeTree([k, v, q]);
    });

    it('refuses rows that were not appended', () => {
      const cache = createKvCache({ layers: 1, batch: 1, positions: 16, kvHeads: 2, headSize: 3 });
      const rows = sampleMatrix(2, width, 'k');
      const q = sampleMatrix(3, z, 'q');
      cache.append(0, rows, rows);
      expect(() => cachedAttention(q, cache.view(0), heads)).toThrow(/3 new rows, got 2/);
      cache.dispose();
      disposeTree([rows, q]);
    });
  });
}

/** Rows `[begin, begin + rows)` of every sequence. */
function pickRows(x: Tensor2D, batch: number, begin: number, rows: number): Tensor2D {
  const all = toMatrix(x);
  const sequence = all.length / batch;
  const picked = Array.from({ length: batch }, (_, b) =>
    all.slice(b * sequence + begin, b * sequence + begin + rows),
  ).flat();
  return tensor2d(picked);
}
