/**
 * @file Trees: nested plain objects and arrays with leaves of one kind (tensors, typed arrays, parameter ids).
 *
 * What a leaf is, the caller says. Everything else that is not a plain object or array is kept as it is when it is a
 * primitive, and refused when it is an object (a `Map` of tensors would be invisible to `tidy`). Order is insertion
 * order. Keys such as `__proto__` are ordinary keys.
 */
import { describeValue, formatPath } from './fault.ts';
import { MoebiusError } from './errors.ts';

/** Steps from the root: object keys and array indices. */
export type TreePath = readonly (string | number)[];

/** Decides what a leaf is. */
export type IsLeaf<L> = (value: unknown) => value is L;

/** The type of a tree after every leaf `L` became an `M`. */
export type MappedTree<T, L, M> = T extends L
  ? M
  : T extends object
    ? { [K in keyof T]: MappedTree<T[K], L, M> }
    : T;

/** A leaf and where it stands. */
export interface TreeLeaf<L> {
  /** Steps from the root. */
  readonly path: TreePath;
  /** Steps joined by dots: `layers.0.moe.gate`. */
  readonly name: string;
  /** The leaf itself, borrowed from the tree. */
  readonly leaf: L;
}

/**
 * A tree of the same structure with every leaf replaced.
 *
 * @param tree - not changed
 * @param isLeaf - what a leaf is
 * @param visit - called once per leaf, in order
 * @throws `data` on an object that is neither leaf, plain object nor array.
 * @example
 * ```ts
 * const isNumbers = (value: unknown): value is Float32Array => value instanceof Float32Array;
 * const sizes = mapTree({ gate: new Float32Array(4) }, isNumbers, (leaf) => leaf.length); // { gate: 4 }
 * ```
 */
export function mapTree<T, L, M>(
  tree: T,
  isLeaf: IsLeaf<L>,
  visit: (leaf: L, path: TreePath) => M,
): MappedTree<T, L, M> {
  const walk = (node: unknown, path: TreePath): unknown => {
    if (isLeaf(node)) return visit(node, path);
    const children = childrenOf(node, path);
    if (children === undefined) return node;
    const mapped = children.map(([step, child]): [string | number, unknown] => [
      step,
      walk(child, [...path, step]),
    ]);
    return Array.isArray(node) ? mapped.map(([, value]) => value) : Object.fromEntries(mapped);
  };
  return walk(tree, []) as MappedTree<T, L, M>;
}

/**
 * Every leaf with its path, in order.
 *
 * @throws `data` on an object that is neither leaf, plain object nor array.
 */
export function leavesOf<L>(tree: unknown, isLeaf: IsLeaf<L>): TreeLeaf<L>[] {
  const leaves: TreeLeaf<L>[] = [];
  mapTree(tree, isLeaf, (leaf, path) => {
    leaves.push({ path, name: path.join('.'), leaf });
  });
  return leaves;
}

/**
 * Combines two trees of one structure, leaf by leaf. The result has the structure of the first.
 *
 * @param first - gives structure and primitives
 * @param second - must have the same keys, lengths and leaf places
 * @param options - what a leaf is in both, and how two become one
 * @throws `data` naming the first place where the structures differ.
 */
export function zipTree<T, L, M>(
  first: T,
  second: unknown,
  options: { readonly isLeaf: IsLeaf<L>; readonly combine: (a: L, b: L, path: TreePath) => M },
): MappedTree<T, L, M> {
  const { isLeaf, combine } = options;
  const walk = (a: unknown, b: unknown, path: TreePath): unknown => {
    if (isLeaf(a) && isLeaf(b)) return combine(a, b, path);
    if (isLeaf(a) || isLeaf(b)) throw differs(path, isLeaf(a) ? 'a leaf' : 'no leaf', describeNode(b));
    const left = childrenOf(a, path);
    const right = childrenOf(b, path);
    if (left === undefined || right === undefined) {
      if (left !== right) throw differs(path, describeNode(a), describeNode(b));
      return a;
    }
    const byStep = new Map<string | number, unknown>(right);
    const hasSameSteps = left.length === right.length && left.every(([step]) => byStep.has(step));
    if (!hasSameSteps || Array.isArray(a) !== Array.isArray(b))
      throw differs(path, describeNode(a), describeNode(b));
    const combined = left.map(([step, child]): [string | number, unknown] => [
      step,
      walk(child, byStep.get(step), [...path, step]),
    ]);
    return Array.isArray(a) ? combined.map(([, value]) => value) : Object.fromEntries(combined);
  };
  return walk(first, second, []) as MappedTree<T, L, M>;
}

/**
 * The value at a path, by own properties only.
 *
 * @param path - steps, or their dotted form (`layers.0.moe`) when no key has a dot
 * @returns `undefined` when there is none
 */
export function getPath(tree: unknown, path: TreePath | string): unknown {
  const steps = typeof path === 'string' ? path.split('.').filter((step) => step !== '') : path;
  let current = tree;
  for (const step of steps) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, step)) return undefined;
    current = (current as Record<string | number, unknown>)[step];
  }
  return current;
}

function childrenOf(node: unknown, path: TreePath): [string | number, unknown][] | undefined {
  if (typeof node !== 'object' || node === null) return undefined;
  if (Array.isArray(node)) return [...node.entries()];
  const prototype: unknown = Object.getPrototypeOf(node);
  if (prototype === Object.prototype || prototype === null) return Object.entries(node);
  const name = (node as { constructor?: { name?: unknown } }).constructor?.name;
  throw new MoebiusError({
    code: 'data',
    message: `tree at ${formatPath(path) || '(root)'}: must be a leaf, a plain object or an array, got ${String(name)} (use a plain object)`,
    details: { path: [...path], got: String(name) },
  });
}

function describeNode(node: unknown): string {
  if (Array.isArray(node)) return `an array of ${node.length}`;
  if (typeof node !== 'object' || node === null) return describeValue(node);
  const prototype: unknown = Object.getPrototypeOf(node);
  if (prototype !== Object.prototype && prototype !== null) return 'a leaf';
  return `an object with keys ${Object.keys(node).join(', ') || '(none)'}`;
}

function differs(path: TreePath, expected: string, got: string): MoebiusError {
  return new MoebiusError({
    code: 'data',
    message: `tree at ${formatPath(path) || '(root)'}: both trees must have one structure, got ${expected} and ${got}`,
    details: { path: [...path] },
  });
}
