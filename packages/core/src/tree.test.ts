import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { getPath, leavesOf, mapTree, type TreePath, zipTree } from './tree.ts';

const isNumbers = (value: unknown): value is Float32Array => value instanceof Float32Array;

const tree = {
  embedding: Float32Array.of(1),
  layers: [
    { gate: Float32Array.of(2, 3), bias: null },
    { gate: Float32Array.of(4), bias: Float32Array.of(5) },
  ],
  step: 7,
};

const leaf = fc
  .array(fc.integer({ min: 0, max: 9 }), { maxLength: 3 })
  .map((list) => Float32Array.from(list));
const anyTree = fc.letrec((tie) => ({
  node: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.constant(null),
    fc.array(tie('node'), { maxLength: 3 }),
    fc.dictionary(fc.string({ maxLength: 4 }), tie('node'), { maxKeys: 3, noNullPrototype: true }),
  ),
})).node;

describe('mapTree', () => {
  it('keeps structure and primitives and maps each leaf with its path', () => {
    const paths: TreePath[] = [];
    const sizes = mapTree(tree, isNumbers, (numbers, path) => {
      paths.push(path);
      return numbers.length;
    });
    expect(sizes).toEqual({
      embedding: 1,
      layers: [
        { gate: 2, bias: null },
        { gate: 1, bias: 1 },
      ],
      step: 7,
    });
    expect(paths).toEqual([
      ['embedding'],
      ['layers', 0, 'gate'],
      ['layers', 1, 'gate'],
      ['layers', 1, 'bias'],
    ]);
  });

  it('is the identity under the identity, for every tree', () => {
    fc.assert(
      fc.property(anyTree, (value) => {
        expect(mapTree(value, isNumbers, (numbers) => numbers)).toEqual(value);
      }),
    );
  });

  it('keeps a key named __proto__ as a key', () => {
    const hostile = JSON.parse('{"__proto__": {"polluted": 1}}') as Record<string, unknown>;
    const mapped = mapTree(hostile, isNumbers, (numbers) => numbers);
    expect(Object.keys(mapped)).toEqual(['__proto__']);
    expect(Object.getPrototypeOf(mapped)).toBe(Object.prototype);
  });

  it('refuses maps, sets and class instances, naming the place', () => {
    expect(() => mapTree({ cache: [new Map()] }, isNumbers, () => 0)).toThrow(
      'tree at cache[0]: must be a leaf, a plain object or an array, got Map (use a plain object)',
    );
    expect(() => mapTree(new Date(0), isNumbers, () => 0)).toThrow('tree at (root)');
  });

  it('takes a leaf as the whole tree', () => {
    expect(mapTree(Float32Array.of(1, 2), isNumbers, (numbers) => numbers.length)).toBe(2);
  });
});

describe('leavesOf', () => {
  it('names leaves by dotted paths that getPath finds again', () => {
    const leaves = leavesOf(tree, isNumbers);
    expect(leaves.map(({ name }) => name)).toEqual([
      'embedding',
      'layers.0.gate',
      'layers.1.gate',
      'layers.1.bias',
    ]);
    for (const { name, path, leaf: found } of leaves) {
      expect(getPath(tree, path)).toBe(found);
      expect(getPath(tree, name)).toBe(found);
    }
  });

  it('counts as many leaves as mapTree visits', () => {
    fc.assert(
      fc.property(anyTree, (value) => {
        let visits = 0;
        mapTree(value, isNumbers, () => {
          visits += 1;
        });
        expect(leavesOf(value, isNumbers)).toHaveLength(visits);
      }),
    );
  });
});

describe('zipTree', () => {
  const add = {
    isLeaf: isNumbers,
    combine: (a: Float32Array, b: Float32Array): number => (a[0] ?? 0) + (b[0] ?? 0),
  };

  it('combines leaf by leaf, whatever the order of the keys', () => {
    const second = { step: 8, layers: tree.layers, embedding: Float32Array.of(10) };
    expect(zipTree(tree, second, add)).toEqual({
      embedding: 11,
      layers: [
        { gate: 4, bias: null },
        { gate: 8, bias: 10 },
      ],
      step: 7,
    });
  });

  it('of a tree with itself visits every leaf twice the same', () => {
    fc.assert(
      fc.property(anyTree, (value) => {
        const same = zipTree(value, value, { isLeaf: isNumbers, combine: (a, b) => a === b });
        expect(leavesOf(value, isNumbers).every(({ path }) => getPath(same, path) === true)).toBe(true);
      }),
    );
  });

  it.each([
    [
      { a: Float32Array.of(1) },
      { a: null },
      'tree at a: both trees must have one structure, got a leaf and null',
    ],
    [
      { a: null },
      { a: Float32Array.of(1) },
      'tree at a: both trees must have one structure, got no leaf and a leaf',
    ],
    [{ a: [] }, { a: {} }, 'got an array of 0 and an object with keys (none)'],
    [{ a: [1] }, { a: [1, 2] }, 'got an array of 1 and an array of 2'],
    [{ a: 1 }, { b: 1 }, 'tree at (root): both trees must have one structure, got an object with keys a and'],
    [{ a: 1 }, { a: {} }, 'tree at a: both trees must have one structure, got 1 and an object'],
    [[{ a: {} }], [{ a: 1 }], 'tree at [0].a'],
  ])('refuses %j with %j', (first, second, message) => {
    expect(() => zipTree(first, second, add)).toThrow(message);
  });
});

describe('getPath', () => {
  it('finds nothing behind missing keys, primitives and inherited properties', () => {
    expect(getPath(tree, 'layers.5.gate')).toBeUndefined();
    expect(getPath(tree, 'step.x')).toBeUndefined();
    expect(getPath(tree, 'toString')).toBeUndefined();
    expect(getPath(tree, ['__proto__'])).toBeUndefined();
    expect(getPath(tree, '')).toBe(tree);
    expect(getPath(tree, [])).toBe(tree);
  });
});
