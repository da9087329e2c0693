import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { isMoebiusError } from '@moebius/core';
import type { Fault, JsonSchema } from '@moebius/core';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { parseTrainConfig } from './train-config.ts';
import { trainConfigDefinition } from './train-config-schema.ts';

const schema = trainConfigDefinition.toJsonSchema();
const accepts = new Ajv2020({ strict: true, allErrors: true }).compile(schema);

const base = {
  $schema: './run.schema.json',
  model: {
    model_type: 'qwen3_moe',
    hidden_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    moe_intermediate_size: 16,
    num_experts: 4,
    num_experts_per_tok: 2,
    max_position_embeddings: 512,
  },
  duration: { steps: 3 },
};

/** Every path of a schema's objects, with its own schema; all branches of unions. */
function fieldsOf(node: unknown, path = ''): { path: string; node: JsonSchema }[] {
  if (Array.isArray(node)) return node.flatMap((branch) => fieldsOf(branch, path));
  if (typeof node !== 'object' || node === null) return [];
  const { properties = {}, anyOf = [], oneOf = [] } = node as { [key: string]: object };
  const own = Object.entries(properties).flatMap(([name, value]) => {
    const place = path === '' ? name : `${path}.${name}`;
    return [{ path: place, node: value as JsonSchema }, ...fieldsOf(value, place)];
  });
  return [...own, ...fieldsOf(anyOf, path), ...fieldsOf(oneOf, path)];
}

/** Faults of the parser; empty when it accepts. */
function faultsOf(value: unknown): readonly Fault[] {
  try {
    parseTrainConfig(value);
    return [];
  } catch (error) {
    if (!isMoebiusError(error, 'configuration')) throw error;
    return (error.details as unknown as { faults: Fault[] }).faults;
  }
}

/** What the schema does not say: values of the model, relations between fields, regular expressions. */
function isBeyondSchema({ path, expectation }: Fault): boolean {
  return (
    path.startsWith('model.') ||
    expectation.includes('must be a regular expression') ||
    expectation.includes('must be at most model.max_position_embeddings') ||
    expectation.includes('must divide model.num_experts') ||
    expectation.includes('must be left out') ||
    expectation.includes('must be one of adamw, sgd, muon') ||
    expectation.includes('must leave room')
  );
}

/** A copy with a value at a dotted path; undefined removes it. */
function withValue(config: unknown, path: readonly string[], value: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  const object = typeof config === 'object' && config !== null ? { ...config } : {};
  const fields = object as { [key: string]: unknown };
  const inner = withValue(fields[key], rest, value);
  if (inner === undefined) delete fields[key];
  else fields[key] = inner;
  return fields;
}

describe('the JSON Schema of a run configuration', () => {
  const fields = fieldsOf(schema);

  it('says what each field means', () => {
    expect(fields.length).toBeGreaterThan(70);
    const silent = fields.filter(({ node }) => typeof node['description'] !== 'string');
    expect(silent.map(({ path }) => path)).toEqual([]);
    for (const { path, node } of fields) {
      expect(String(node['description']).length, path).toBeGreaterThan(9);
    }
  });
  it('takes its descriptions from the comments of the types', () => {
    const root = fileURLToPath(new URL('../../../../', import.meta.url));
    const check = spawnSync(process.execPath, ['tooling/make-config-descriptions.mjs', '--check'], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(check.stderr).toBe('');
    expect(check.stdout).toContain(' fields, no faults');
  });
  it('accepts a configuration with its $schema, as written and with every default', () => {
    expect(accepts(base), JSON.stringify(accepts.errors)).toBe(true);
    const parsed = parseTrainConfig(base);
    expect(parsed.$schema).toBe('./run.schema.json');
    expect(accepts(JSON.parse(JSON.stringify(parsed)))).toBe(true);
  });
  it('takes a folder to begin from in place of a model', () => {
    const { model: _, ...without } = base;
    expect(accepts(without)).toBe(false);
    expect(accepts({ ...without, initFrom: null })).toBe(false);
    const begun = { ...without, initFrom: 'runs/demo/model' };
    expect(accepts(begun), JSON.stringify(accepts.errors)).toBe(true);
    expect(faultsOf(begun)).toEqual([]);
  });
  it('refuses unknown keys and wrong kinds', () => {
    for (const wrong of [{ ...base, stepps: 3 }, { ...base, seed: 'x' }, { model: base.model }, [], 'text']) {
      expect(accepts(wrong), JSON.stringify(wrong)).toBe(false);
    }
  });
  it('agrees with the parser on changed configurations, but for what no schema can say', () => {
    const values = [0, 1, -1, 0.5, 1.5, 2, 300, '', 'sotu', 'cosine', '(', null, true, [], ['norm'], {}];
    const changes = fc.array(
      fc.tuple(
        fc.constantFrom(...fields.map(({ path }) => path), 'batch.lenght', 'extra'),
        fc.constantFrom<unknown>(...values, undefined, { path: 'x' }, { corpus: 'sotu' }, { minutes: 1 }),
      ),
      { maxLength: 4 },
    );
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(changes, (list) => {
        const value = list.reduce<unknown>(
          (config, [path, change]) => withValue(config, path.split('.'), change),
          base,
        );
        const faults = faultsOf(value);
        const isGood = faults.every(isBeyondSchema);
        if (isGood) accepted += 1;
        else refused += 1;
        expect(accepts(value), JSON.stringify({ value, faults })).toBe(isGood);
      }),
      { numRuns: 1500 },
    );
    expect(Math.min(accepted, refused)).toBeGreaterThan(150);
  });
});
