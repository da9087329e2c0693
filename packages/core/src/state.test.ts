import { describe, expect, it } from 'vitest';

import { isMoebiusError } from './errors.ts';
import { createMemoryState } from './memory-state.ts';
import { assertStateUnit, type StateUnit, unitByteLength } from './state.ts';
import { runSync } from './task.ts';

function unit(id: string, version = 1): StateUnit {
  return {
    id,
    version,
    tensors: {
      gate: { dtype: 'F32', shape: [2], bytes: new Uint8Array(8).fill(version) },
      rows: {
        dtype: 'BF16',
        shape: [1, 3],
        bytes: new Uint8Array(6),
        box: { globalShape: [4, 3], offset: [3, 0] },
      },
    },
  };
}

describe('assertStateUnit', () => {
  it('accepts whole tensors and pieces', () => {
    expect(() => assertStateUnit(unit('a'))).not.toThrow();
    expect(unitByteLength(unit('a'))).toBe(14);
  });

  const bytes = new Uint8Array(8);
  const box = (globalShape: number[], offset: number[]): StateUnit['tensors'] => ({
    x: { dtype: 'F32', shape: [2], bytes, box: { globalShape, offset } },
  });
  it.each<[string, StateUnit['tensors'], string]>([
    [
      'too few bytes',
      { x: { dtype: 'F32', shape: [3], bytes } },
      'unit "a", tensor "x": must be 12 bytes for F32 [3], got 8',
    ],
    ['half a byte', { x: { dtype: 'F4', shape: [3], bytes } }, 'fill whole bytes'],
    ['a negative dimension', { x: { dtype: 'F32', shape: [-2], bytes } }, 'shape must be valid'],
    ['a box that ends early', box([3], [2]), 'box must hold the piece'],
    ['a box of another rank', box([3, 3], [0]), 'box must hold the piece'],
    ['a negative offset', box([3], [-1]), 'F32 [2] at [-1] of [3]'],
    ['a fractional offset', box([9], [0.5]), 'box must hold the piece'],
  ])('refuses %s', (_, tensors, message) => {
    expect(() => assertStateUnit({ id: 'a', version: 0, tensors })).toThrow(message);
  });

  it('refuses an empty id and a version that is no counter', () => {
    expect(() => assertStateUnit(unit(''))).toThrow('empty id');
    expect(() => assertStateUnit(unit('a', -1))).toThrow('unit "a": version must be');
    expect(() => assertStateUnit(unit('a', 0.5))).toThrow('got 0.5');
  });
});

describe('createMemoryState', () => {
  it('shows all of a commit and nothing before it', () => {
    const state = createMemoryState();
    const writer = state.writer();
    runSync(writer.begin({ step: '7' }));
    runSync(writer.put(unit('a')));
    expect(() => state.reader()).toThrow('must be committed to be read');
    runSync(writer.put(unit('b', 4)));
    runSync(writer.commit());
    const reader = state.reader();
    expect(runSync(reader.metadata())).toEqual({ step: '7' });
    expect(runSync(reader.units())).toEqual([
      { id: 'a', version: 1, byteLength: 14 },
      { id: 'b', version: 4, byteLength: 14 },
    ]);
    expect(runSync(reader.read('b'))).toEqual(unit('b', 4));
  });

  it('keeps what is held when a later write aborts, and an open reader when one commits', () => {
    const state = createMemoryState();
    const write = (id: string, end: 'commit' | 'abort'): void => {
      const writer = state.writer();
      runSync(writer.begin());
      runSync(writer.put(unit(id)));
      runSync(writer[end]());
    };
    write('a', 'commit');
    write('b', 'abort');
    const reader = state.reader();
    expect(runSync(reader.units()).map(({ id }) => id)).toEqual(['a']);
    write('c', 'commit');
    expect(runSync(reader.units()).map(({ id }) => id)).toEqual(['a']);
    expect(runSync(state.reader().units()).map(({ id }) => id)).toEqual(['c']);
  });

  it('copies bytes in both directions', () => {
    const state = createMemoryState();
    const source = unit('a');
    const writer = state.writer();
    runSync(writer.begin());
    runSync(writer.put(source));
    source.tensors['gate']?.bytes.fill(99);
    runSync(writer.commit());
    runSync(state.reader().read('a')).tensors['gate']?.bytes.fill(77);
    expect(runSync(state.reader().read('a')).tensors['gate']?.bytes[0]).toBe(1);
  });

  it('refuses calls out of order, broken units, doubles and unknown ids', () => {
    const writer = createMemoryState().writer();
    expect(() => runSync(writer.put(unit('a')))).toThrow('must begin before put');
    expect(() => runSync(writer.commit())).toThrow('must begin before commit');
    runSync(writer.abort());
    runSync(writer.begin());
    expect(() => runSync(writer.begin())).toThrow('got a second begin');
    expect(() => runSync(writer.put(unit('')))).toThrow('empty id');
    runSync(writer.put(unit('a')));
    expect(() => runSync(writer.put(unit('a')))).toThrow('got "a" again');

    const state = createMemoryState();
    const other = state.writer();
    runSync(other.begin());
    runSync(other.commit());
    try {
      runSync(state.reader().read('x'));
      expect.unreachable();
    } catch (error) {
      expect(isMoebiusError(error, 'checkpoint')).toBe(true);
    }
  });
});
