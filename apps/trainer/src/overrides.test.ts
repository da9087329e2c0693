import { isMoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { applyOverrides, parseOverride, scalarPaths } from './overrides.ts';
import type { Json } from './overrides.ts';

const config = { steps: 10, model: { experts: 8, tied: true, names: ['a', 'b'] }, out: 'runs', limit: null };

function change(...texts: string[]): unknown {
  return applyOverrides(config, texts.map(parseOverride));
}

function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isMoebiusError(error, 'configuration')) return error.message;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('--set', () => {
  it('replaces a scalar anywhere and leaves the rest and the input alone', () => {
    const before = JSON.stringify(config);
    expect(change('steps=20', 'model.experts=1.6e1', 'model.names.1=c=d')).toEqual({
      ...config,
      steps: 20,
      model: { experts: 16, tied: true, names: ['a', 'c=d'] },
    });
    expect(JSON.stringify(config)).toBe(before);
  });
  it('keeps the kind of a value: strings stay text, booleans are words, null becomes anything', () => {
    expect(change('out=12', 'model.tied=false', 'limit=3')).toEqual({
      ...config,
      out: '12',
      limit: 3,
      model: { ...config.model, tied: false },
    });
    expect(messageOf(() => change('steps=many'))).toBe(
      '--set steps: must be a finite number, got "many" (it is 10 now)',
    );
    expect(messageOf(() => change('model.tied=yes'))).toContain('must be true or false, got "yes"');
  });
  it('names the nearest path for a misspelt one, and the whole list when none is near', () => {
    expect(messageOf(() => change('model.expert=4'))).toContain('did you mean model.experts?');
    expect(messageOf(() => change('model.zzzzzzz=4'))).toContain('model has experts, tied, names');
    expect(messageOf(() => change('steps.more=4'))).toContain('steps is a single value');
  });
  it('adds a scalar that is not there only where that is allowed', () => {
    const optional = ['model.threads', 'engine.name'];
    const changed = applyOverrides(
      config,
      ['model.threads=2', 'engine.name=wasm'].map(parseOverride),
      optional,
    );
    expect(changed).toEqual({ ...config, model: { ...config.model, threads: 2 }, engine: { name: 'wasm' } });
    expect(applyOverrides({ a: 1 }, [parseOverride('a=2')], ['a'])).toEqual({ a: 2 });
  });
  it('refuses objects, lists and arguments without a value', () => {
    expect(messageOf(() => change('model=4'))).toContain('must be one value, not an object');
    expect(messageOf(() => change('model.names=x'))).toContain('not a list');
    expect(messageOf(() => change('steps'))).toContain('must be path=value');
    expect(messageOf(() => change('=3'))).toContain('must be path=value');
  });
  it('reaches every scalar of any configuration', () => {
    const tree = fc.dictionary(
      fc.stringMatching(/^[a-z]{1,6}$/),
      fc.oneof(
        fc.integer(),
        fc.boolean(),
        fc.array(fc.integer(), { minLength: 1, maxLength: 3 }),
        fc.record({ x: fc.integer() }),
      ),
      { minKeys: 1 },
    );
    fc.assert(
      fc.property(tree, (value) => {
        for (const { path, value: scalar } of scalarPaths(value as Json)) {
          const changed = applyOverrides(value as Json, [{ path, text: String(scalar) }]);
          expect(changed).toEqual(value);
        }
      }),
    );
  });
});
