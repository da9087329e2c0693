import { describe, expect, it } from 'vitest';

import { z } from './config.ts';
import { describeValue, faultsOf, formatPath } from './fault.ts';

const lines = (schema: z.ZodType, value: unknown): string[] => {
  const result = schema.safeParse(value);
  const issues = result.success ? [] : result.error.issues;
  return faultsOf(issues, { schema, value }).map(
    ({ path, expectation, got }) => `${path}: ${expectation}, got ${got}`,
  );
};

describe('formatPath', () => {
  it.each([
    [[], ''],
    [['a'], 'a'],
    [['layers', 3, 'moe', 'top-k'], 'layers[3].moe.top-k'],
    [[0, 1], '[0][1]'],
    [['a b', '', '1'], '["a b"][""]["1"]'],
  ])('writes %j as %s', (path, text) => {
    expect(formatPath(path)).toBe(text);
  });
});

describe('describeValue', () => {
  it.each([
    [undefined, 'nothing'],
    [null, 'null'],
    ['text', '"text"'],
    [-0.5, '-0.5'],
    [NaN, 'NaN'],
    [-Infinity, '-Infinity'],
    [12n, '12'],
    [Symbol('x'), 'symbol'],
    [() => 1, 'function'],
    [[1, 'a'], '[1,"a"]'],
    [{ toJSON: () => undefined }, '[object Object]'],
  ])('writes %s as %s', (value, text) => {
    expect(describeValue(value)).toBe(text);
  });

  it('never writes more than 60 characters', () => {
    expect(describeValue('x'.repeat(1000))).toHaveLength(60);
    expect(describeValue(Array.from({ length: 1000 }, () => 1))).toMatch(/…$/);
  });
});

describe('faultsOf', () => {
  it.each<[z.ZodType, unknown, string]>([
    [z.string().min(3), 'ab', ': must have at least 3 characters, got "ab"'],
    [z.string().max(1), 'ab', ': must have at most 1 characters, got "ab"'],
    [z.string().regex(/^a/), 'b', ': must match /^a/, got "b"'],
    [z.array(z.int()).max(1), [1, 2], ': must have at most 1 elements, got [1,2]'],
    [z.tuple([z.int(), z.int()]), [1, 'x'], '[1]: must be a number, got "x"'],
    [z.number().gt(0), 0, ': must be more than 0, got 0'],
    [z.literal(5), 6, ': must be 5, got 6'],
    [z.boolean(), 'yes', ': must be a boolean, got "yes"'],
    [z.null(), 1, ': must be null, got 1'],
    [z.record(z.string(), z.boolean()), { 'a b': 1 }, '["a b"]: must be a boolean, got 1'],
    [
      z.strictObject({ a: z.strictObject({ b: z.int() }) }),
      { a: { b: '1' } },
      'a.b: must be a number, got "1"',
    ],
    [z.int().refine((value) => value % 2 === 0, 'must be even'), 3, ': must be even, got 3'],
    [z.union([z.literal('auto'), z.int()]), true, ': must be "auto" or a number, got true'],
  ])('explains case %#', (schema, value, line) => {
    expect(lines(schema, value)).toEqual([line]);
  });

  it('finds known keys through optional, default, array, record, tuple and intersection', () => {
    const inner = z.strictObject({ experts: z.int().optional() });
    const wrappers: [z.ZodType, unknown][] = [
      [inner.optional(), { exprets: 1 }],
      [inner.default({}), { exprets: 1 }],
      [inner.nullable().readonly(), { exprets: 1 }],
      [z.array(inner), [{ exprets: 1 }]],
      [z.record(z.string(), inner), { any: { exprets: 1 } }],
      [z.tuple([z.int(), inner]), [1, { exprets: 1 }]],
      [z.tuple([z.int()], inner), [1, { exprets: 1 }]],
      [z.intersection(inner, z.strictObject({ layers: z.int().optional() })), { exprets: 1 }],
      [inner.pipe(z.transform((value) => value)), { exprets: 1 }],
    ];
    for (const [schema, value] of wrappers) {
      const result = schema.safeParse(value);
      const faults = result.success ? [] : faultsOf(result.error.issues, { schema, value });
      expect(faults.map(({ remedy }) => remedy)).toEqual(['did you mean "experts"?']);
    }
  });
});
