import fs from 'node:fs';
import path from 'node:path';

import { describe, expect, it } from 'vitest';

import { encodeSafetensors, openSafetensors, parseSafetensors, type TensorSource } from '../src/index.ts';

/** Made by test/make-fixtures.py with the reference library; its versions are in both files. */
const FILE = path.join(import.meta.dirname, '__fixtures__/reference.safetensors');
const { values } = JSON.parse(fs.readFileSync(FILE.replace(/safetensors$/, 'json'), 'utf8')) as {
  readonly values: Readonly<Record<string, readonly string[] | null>>;
};

function parseNumber(text: string): number | bigint {
  const named = new Map<string, number>([
    ['nan', NaN],
    ['inf', Infinity],
    ['-inf', -Infinity],
    ['true', 1],
    ['false', 0],
  ]);
  const number = named.get(text) ?? Number(text);
  return Number.isSafeInteger(number) || !/^-?\d+$/.test(text) ? number : BigInt(text);
}

describe('a file of the reference library', () => {
  const file = openSafetensors(FILE);

  it('has every name and the metadata', () => {
    expect(file.names().toSorted()).toEqual(Object.keys(values).toSorted());
    expect(file.metadata.get('made by')).toMatch(/^make-fixtures\.py, safetensors \d/);
  });

  it.each(Object.keys(values))('decodes %j to the same numbers', (name) => {
    const { data, stored } = file.read(name, { allowLossy: true });
    const expected = values[name]?.map(parseNumber);
    if (expected === undefined) {
      const positive = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
      expect([...data]).toEqual([...positive, ...positive.map((value) => -value)]);
      return;
    }
    expect(data.length).toBe(expected.length);
    for (const [at, want] of expected.entries()) {
      const rounded = stored === 'F64' ? Math.fround(Number(want)) : want;
      const got = data[at];
      const same = typeof got === 'bigint' ? got === BigInt(rounded) : Object.is(got, Number(rounded));
      if (!same) expect.unreachable(`element ${at}: ${got} for ${want}`);
    }
  });

  it('is written again, from shuffled tensors, with identical bytes', () => {
    const tensors = file.names().map((name): TensorSource => {
      const { dtype, shape } = file.info(name);
      return { name, dtype, shape, bytes: file.readBytes(name) };
    });
    const again = encodeSafetensors(
      tensors.toSorted((a, b) => (a.name < b.name ? 1 : -1)),
      {
        metadata: Object.fromEntries(file.metadata),
      },
    );
    expect(Buffer.compare(again, fs.readFileSync(FILE))).toBe(0);
  });

  it('is encoded again from its decoded numbers with identical bytes, in the types that are encoded', () => {
    const whole = parseSafetensors(fs.readFileSync(FILE));
    for (const name of [
      'f16',
      'bf16',
      'i32',
      'f32 scalar',
      'f32 empty',
      'bool',
      'i64 small',
      'i64 large',
      'u64',
      'c64',
      'u8',
    ]) {
      const { dtype, shape } = whole.info(name);
      const { data } = whole.read(name);
      const again = parseSafetensors(encodeSafetensors([{ name, dtype, shape, data }]));
      expect(again.readBytes(name)).toEqual(whole.readBytes(name));
    }
  });
});
