import { beforeAll, describe, expect, it } from 'vitest';

import { isMoebiusError } from '@moebius/core';

import {
  add,
  assertShape,
  cloneTree,
  countTensors,
  createEngine,
  defineOp,
  disposeTree,
  listTensors,
  mapTree,
  mul,
  readHost,
  readHostSync,
  replaceTree,
  runOp,
  tensor1d,
  tensor2d,
  tidy,
} from '../../src/index.ts';
import type { Dims, Tensor } from '../../src/index.ts';
import { centralDifferences, expectNoTensorLeak, installTensorMatchers } from '../../src/testing/index.ts';

beforeAll(async () => {
  await createEngine({ engine: 'wasm' });
  installTensorMatchers();
});
expectNoTensorLeak();

describe('an operation', () => {
  it('frees what it makes and hands over what it returns, nested, beside typed arrays', () => {
    const twice = defineOp('twice', (x: Tensor) => {
      const sum = add(x, x);
      mul(sum, sum);
      return { deep: [{ sum }], plan: new Int32Array(1_000_000), x: 3 };
    });
    const x = tensor1d([1, 2]);
    const live = countTensors();
    const result = twice(x);
    expect(countTensors()).toBe(live + 1);
    expect([...readHostSync(result.deep[0]!.sum)]).toEqual([2, 4]);
    disposeTree([x, result]);
  });

  it('frees everything when it throws', () => {
    const live = countTensors();
    expect(() =>
      runOp('broken', () => {
        tensor1d([1]);
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(countTensors()).toBe(live);
  });

  it('refuses a promise by name, and frees what was made', () => {
    const caught = thrownBy(() => runOp('waits', async () => tensor1d([1])));
    expect(isMoebiusError(caught, 'ownership')).toBe(true);
    expect(String(caught)).toMatch(/waits: must return synchronously, got a promise/);
  });

  it.each([
    ['Map', new Map()],
    ['Set', new Set()],
  ])('refuses a %s, whose tensors would be freed', (name, value) => {
    const caught = thrownBy(() => tidy(() => ({ nested: value })));
    expect(isMoebiusError(caught, 'ownership')).toBe(true);
    expect(String(caught)).toMatch(new RegExp(`got a ${name}`));
  });

  it('nests: an inner result is freed by the outer scope unless returned', () => {
    const live = countTensors();
    const kept = tidy(() => {
      const inner = tidy(() => tensor1d([1, 2]));
      tidy(() => tensor1d([3]));
      return add(inner, 1);
    });
    expect(countTensors()).toBe(live + 1);
    kept.dispose();
  });
});

describe('a tree', () => {
  it('is listed, counted, mapped, cloned and freed, each tensor once', () => {
    const a = tensor1d([1]);
    const tree = { a, again: a, list: [tensor1d([2]), null, 'text', new Float32Array(3)], n: 5 };
    expect(listTensors(tree)).toHaveLength(2);
    expect(countTensors(tree)).toBe(2);
    const copy = cloneTree(tree);
    const doubled = mapTree(tree, (t) => mul(t, 2));
    disposeTree(tree);
    disposeTree(tree);
    expect([...readHostSync(copy.a)]).toEqual([1]);
    expect([...readHostSync(doubled.list[0] as Tensor)]).toEqual([4]);
    expect(doubled.list[3]).toBe(tree.list[3]);
    disposeTree([copy, doubled]);
  });

  it('is replaced: what both hold survives', () => {
    const shared = tensor1d([1]);
    const old = { shared, gone: tensor1d([2]) };
    const next = replaceTree(old, { shared, fresh: tensor1d([3]) });
    expect(shared.isDisposed).toBe(false);
    expect(old.gone.isDisposed).toBe(true);
    disposeTree(next);
  });
});

describe('reading to the host', () => {
  it('gives a typed array of the caller’s own', async () => {
    const x = tensor1d([1, 2, 3]);
    const host = await readHost(x);
    host.fill(9);
    expect([...readHostSync(x)]).toEqual([1, 2, 3]);
    x.dispose();
  });
});

describe('assertShape', () => {
  it('binds letters, compares numbers, skips stars', () => {
    const x = tensor2d([1, 2, 3, 4, 5, 6], [2, 3]);
    const dims: Dims = {};
    assertShape(x, 'T D', dims);
    expect(dims).toEqual({ T: 2, D: 3 });
    assertShape(x, '* 3', dims);
    expect(() => assertShape(x, 'D T', dims, 'x')).toThrow(
      'x: D (axis 0) must be 3, got 2 in [2, 3] for [D, T]',
    );
    expect(() => assertShape(x, '2 4', {}, 'x')).toThrow('x: axis 1 must be 4, got 3 in [2, 3] for [2, 4]');
    expect(() => assertShape(x, '', {}, 'x')).toThrow('x: must have rank 0 [], got rank 2 [2, 3]');
    x.dispose();
  });
});

describe('the testing entry', () => {
  it('measures a gradient by central differences', () => {
    const x = tensor1d([1, -2, 0.5]);
    const dy = tensor1d([1, 2, 3]);
    expect(centralDifferences((at) => mul(at, at), x, dy)).toBeAllClose([2, -8, 3], { rtol: 1e-3 });
    disposeTree([x, dy]);
  });

  it('has matchers that fail on a difference, a NaN, another count and another shape', () => {
    const x = tensor1d([1, 2]);
    expect(() => expect(x).toBeAllClose([1, 2.1])).toThrow(/worst at 1.*expected 2\.1, got 2/);
    expect(() => expect([Number.NaN]).toBeAllClose([0])).toThrow(/got NaN/);
    expect(() => expect(x).toBeAllClose([1])).toThrow(/expected 1 numbers, got 2/);
    expect(() => expect(x).toHaveShape([1, 2])).toThrow(/expected shape \[1, 2\], got \[2\]/);
    expect(x).toBeAllClose(x);
    expect(x).toHaveShape([2]);
    x.dispose();
  });
});

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}
