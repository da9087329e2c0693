import { describe, expect, it } from 'vitest';

import { configurationError, defineConfig, parseConfig, schemaVersion, toJsonSchema, z } from './config.ts';
import { isMoebiusError, type MoebiusError } from './errors.ts';

const router = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('top-k'), k: z.int().min(1) }),
  z.strictObject({ kind: z.literal('soft'), slots: z.int().min(1).default(1) }),
]);

const model = z
  .strictObject({
    schemaVersion: schemaVersion(2),
    width: z.int().min(8).multipleOf(4),
    heads: z.int().min(1).default(4),
    activation: z.enum(['silu', 'gelu', 'relu']).default('silu'),
    dropout: z.number().min(0).lt(1).default(0),
    layers: z.array(z.strictObject({ router })).min(1).max(3),
    tags: z.record(z.string(), z.number()).optional(),
    seed: z.union([z.number(), z.string()]).default(0),
    data: z.union([z.string(), z.strictObject({ folder: z.string(), weight: z.number() })]).optional(),
  })
  .superRefine((config, context) => {
    if (config.width % config.heads === 0) return;
    context.addIssue({
      code: 'custom',
      path: ['heads'],
      message: `must divide width ${config.width}`,
      params: { remedy: 'use 1, 2 or 4' },
    });
  });

const valid = { width: 16, layers: [{ router: { kind: 'top-k', k: 2 } }] };

function failure(value: unknown): MoebiusError {
  try {
    parseConfig(model, value, 'model');
  } catch (error) {
    if (isMoebiusError(error, 'configuration')) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const lines = (value: unknown): string[] =>
  failure(value)
    .message.split('\n')
    .slice(1)
    .map((line) => line.trim());

describe('parseConfig', () => {
  it('fills defaults and does not change its argument', () => {
    const value = structuredClone(valid);
    expect(parseConfig(model, value, 'model')).toEqual({
      schemaVersion: 2,
      width: 16,
      heads: 4,
      activation: 'silu',
      dropout: 0,
      layers: [{ router: { kind: 'top-k', k: 2 } }],
      seed: 0,
    });
    expect(value).toEqual(valid);
  });

  it('parses its own output to the same value', () => {
    const once = parseConfig(model, valid, 'model');
    expect(parseConfig(model, JSON.parse(JSON.stringify(once)), 'model')).toEqual(once);
  });

  it('reports every fault at once, each with path, expectation, value and remedy', () => {
    const error = failure({
      schemaVersion: 3,
      widht: 16,
      width: 6,
      heads: 'four',
      activation: 'sulu',
      dropout: 1,
      layers: [{ router: { kind: 'top-k', k: 0 } }, { router: { kind: 'topk' } }, { rooter: 1 }],
      tags: { a: 'x' },
      seed: null,
    });
    expect(error.message).toMatchInlineSnapshot(`
      "model: must be a valid configuration, got 13 faults:
        schemaVersion: must be 2, got 3
        width: must be at least 8, got 6
        width: must be a multiple of 4, got 6
        heads: must be a number, got "four"
        activation: must be one of "silu", "gelu", "relu", got "sulu" (did you mean "silu"?)
        dropout: must be less than 1, got 1
        layers[0].router.k: must be at least 1, got 0
        layers[1].router.kind: must be one of "top-k", "soft", got "topk" (did you mean "top-k"?)
        layers[2].router: must be an object, got nothing (it is required)
        layers[2].rooter: must be a known key, got "rooter" (did you mean "router"?)
        tags.a: must be a number, got "x"
        seed: must be a number or a string, got null
        widht: must be a known key, got "widht" (did you mean "width"?)"
    `);
    expect(error.details).toMatchObject({ subject: 'model' });
    expect(error.details['faults']).toHaveLength(error.message.split('\n').length - 1);
  });

  it('suggests the nearest known key, also inside arrays and unions, and lists the known ones otherwise', () => {
    expect(lines({ ...valid, actvation: 'silu' })).toEqual([
      'actvation: must be a known key, got "actvation" (did you mean "activation"?)',
    ]);
    expect(lines({ ...valid, layers: [{ router: { kind: 'soft', slot: 2 } }] })).toEqual([
      'layers[0].router.slot: must be a known key, got "slot" (did you mean "slots"?)',
    ]);
    expect(lines({ ...valid, zzz: 1 })[0]).toContain('remove it; known keys: schemaVersion, width, heads');
  });

  it('runs cross-field checks with their own remedy', () => {
    expect(lines({ ...valid, heads: 5 })).toEqual(['heads: must divide width 16, got 5 (use 1, 2 or 4)']);
  });

  it('explains the closest branch of a union, or all kinds when none is close', () => {
    expect(lines({ ...valid, data: { folder: 1, weight: 2 } })).toEqual([
      'data.folder: must be a string, got 1',
    ]);
    expect(lines({ ...valid, data: 5 })).toEqual(['data: must be a string or an object, got 5']);
  });

  it.each([
    [undefined, '(whole value): must be an object, got nothing (it is required)'],
    [null, '(whole value): must be an object, got null'],
    ['x', '(whole value): must be an object, got "x"'],
    [{ ...valid, layers: [] }, 'layers: must have at least 1 elements, got []'],
    [{ ...valid, width: NaN }, 'width: must be a number, got NaN'],
    [{ ...valid, width: 16.5 }, 'width: must be an integer, got 16.5'],
  ])('explains %j', (value, line) => {
    expect(lines(value)[0]).toBe(line);
  });

  it('shortens long values and survives values that JSON cannot hold', () => {
    expect(lines({ ...valid, heads: 'x'.repeat(500) })[0]?.length).toBeLessThan(110);
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    expect(lines({ ...valid, heads: circular })[0]).toBe('heads: must be a number, got [object Object]');
    expect(lines({ ...valid, heads: 3n })[0]).toBe('heads: must be a number, got 3');
    expect(lines({ ...valid, heads: () => 1 })[0]).toBe('heads: must be a number, got function');
  });

  it('treats a key named __proto__ as unknown', () => {
    const hostile: unknown = JSON.parse(
      '{"width":16,"layers":[{"router":{"kind":"soft"}}],"__proto__":{"heads":1}}',
    );
    expect(lines(hostile)[0]).toContain('must be a known key');
  });
});

describe('defineConfig', () => {
  const definition = defineConfig({ name: 'model', schema: model });

  it('parses under its own name, or the subject given', () => {
    expect(definition.parse(valid).width).toBe(16);
    expect(() => definition.parse({})).toThrow(/^model: must be a valid configuration, got 2 faults:/);
    expect(() => definition.parse({ ...valid, heads: 5 }, 'run.json')).toThrow(/^run\.json: .* got 1 fault:/);
  });

  it('refuses schemas that would drop unknown keys, naming each place', () => {
    const open = z.strictObject({
      a: z.object({ b: z.number() }),
      c: z.array(z.union([z.object({}), z.number()])),
    });
    expect(() => defineConfig({ name: 'open', schema: open })).toThrow(
      'open schema: every object must reject or keep unknown keys, got z.object at a, c.* (use z.strictObject)',
    );
    expect(() => parseConfig(z.object({}), {}, 'x')).toThrow('z.object at (root)');
    expect(() => defineConfig({ name: 'kept', schema: z.looseObject({ a: z.number() }) })).not.toThrow();
  });

  it('accepts recursive schemas', () => {
    interface Node {
      readonly next?: Node | undefined;
    }
    const node: z.ZodType<Node> = z.lazy(() => z.strictObject({ next: node.optional() }));
    const recursive = defineConfig({ name: 'node', schema: node });
    expect(recursive.parse({ next: { next: {} } })).toEqual({ next: { next: {} } });
    expect(() => recursive.parse({ next: { nxt: {} } })).toThrow('did you mean "next"?');
  });
});

describe('toJsonSchema', () => {
  it('describes what may be written: defaults are optional, unknown keys are not allowed', () => {
    const schema = toJsonSchema(model);
    expect(schema['required']).toEqual(['width', 'layers']);
    expect(schema['additionalProperties']).toBe(false);
    expect(JSON.parse(JSON.stringify(schema))).toEqual(schema);
  });
});

describe('configurationError', () => {
  it('makes one error of faults found elsewhere', () => {
    const error = configurationError('run', [
      { path: 'a', expectation: 'must be even', got: '3', remedy: 'use 4' },
      { path: '', expectation: 'must fit', got: '9 GB' },
    ]);
    expect(error.message).toBe(
      'run: must be a valid configuration, got 2 faults:\n  a: must be even, got 3 (use 4)\n  (whole value): must fit, got 9 GB',
    );
  });
});
