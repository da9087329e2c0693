/**
 * @file Who owns a tensor: scopes, trees and reading to the host.
 *
 * Borrow in, own out: an operation never disposes its arguments and returns fresh tensors the caller owns.
 * State is nested plain objects and arrays (*trees*); a tensor inside a `Map` or a `Set` is an error here, because
 * TensorFlow.js would free it while it is held. Unlike `tf.tidy`, a scope of ours does not walk typed arrays
 * (walking one costs seconds) and throws when it is given a promise.
 */
import { MoebiusError } from '@moebius/core';
import { Tensor, clone, engine } from '@tensorflow/tfjs';
import type { TypedArray } from '@tensorflow/tfjs';

/** Anything whose leaves may be tensors: plain objects and arrays, nested; other leaves are left alone. */
export type TensorTree = unknown;

/**
 * Runs `fn` in one scope: every tensor made inside is freed, except those in the returned tree.
 *
 * @param name - the scope's name, for profiles and error messages
 * @param fn - synchronous work
 * @returns what `fn` returned; the caller owns its tensors
 * @throws `ownership` when `fn` returns a promise, or a `Map` or `Set` (whose tensors would be freed)
 */
export function runOp<R>(name: string, fn: () => R): R {
  const active = engine();
  active.startScope(name);
  let kept: Tensor[] = [];
  try {
    const result = fn();
    if (isPromise(result)) {
      result.then(undefined, () => undefined);
      throw new MoebiusError({
        code: 'ownership',
        message: `${name}: must return synchronously, got a promise (await outside the scope and pass the values in)`,
        details: { name },
      });
    }
    kept = listTensors(result);
    return result;
  } finally {
    active.endScope(kept);
  }
}

/**
 * Runs `fn` in a scope of its own; see {@link runOp}.
 *
 * @returns what `fn` returned; the caller owns its tensors
 */
export function tidy<R>(fn: () => R): R {
  return runOp('tidy', fn);
}

/**
 * Makes an operation of a function: one scope around every call, named for profiles and errors.
 *
 * @param name - the operation's name
 * @param fn - a synchronous function that borrows its arguments
 * @returns the same function, scoped: what it returns is owned by the caller, all else it made is freed
 * @example
 * ```ts
 * const twice = defineOp('twice', (x: Tensor) => add(x, x));
 * ```
 */
export function defineOp<A extends readonly unknown[], R>(
  name: string,
  fn: (...args: A) => R,
): (...args: A) => R {
  return (...args) => runOp(name, () => fn(...args));
}

/**
 * Every tensor of a tree, in walking order, each once.
 *
 * @throws `ownership` when the tree holds a `Map` or a `Set`
 */
export function listTensors(tree: TensorTree): Tensor[] {
  const found: Tensor[] = [];
  collect(tree, found, new Set());
  return found;
}

function collect(node: unknown, found: Tensor[], seen: Set<number>): void {
  if (node === null || typeof node !== 'object') return;
  if (node instanceof Tensor) {
    if (!seen.has(node.id)) found.push(node);
    seen.add(node.id);
    return;
  }
  if (ArrayBuffer.isView(node)) return;
  if (node instanceof Map || node instanceof Set) {
    throw new MoebiusError({
      code: 'ownership',
      message: `tree: must be plain objects and arrays, got a ${node instanceof Map ? 'Map' : 'Set'} (tensors inside would be freed)`,
    });
  }
  if (Array.isArray(node)) {
    for (const child of node) collect(child, found, seen);
    return;
  }
  const prototype: unknown = Object.getPrototypeOf(node);
  if (prototype !== Object.prototype && prototype !== null) return;
  for (const child of Object.values(node)) collect(child, found, seen);
}

/**
 * The same tree with every tensor replaced. Typed arrays, numbers, strings and class instances are shared.
 *
 * @param tree - plain objects and arrays
 * @param fn - gives the tensor to put in the place of a tensor `[…]`
 */
export function mapTree<T>(tree: T, fn: (tensor: Tensor) => Tensor): T {
  return mapNode(tree, fn) as T;
}

function mapNode(node: unknown, fn: (tensor: Tensor) => Tensor): unknown {
  if (node === null || typeof node !== 'object' || ArrayBuffer.isView(node)) return node;
  if (node instanceof Tensor) return fn(node);
  if (Array.isArray(node)) return node.map((child: unknown) => mapNode(child, fn));
  const prototype: unknown = Object.getPrototypeOf(node);
  if (prototype !== Object.prototype && prototype !== null) return node;
  return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, mapNode(child, fn)]));
}

/** Frees every tensor of a tree. A tensor that is already freed is left alone. */
export function disposeTree(tree: TensorTree): void {
  for (const tensor of listTensors(tree)) if (!tensor.isDisposed) tensor.dispose();
}

/**
 * The same tree with every tensor cloned: buffers are shared, the caller owns the clones.
 */
export function cloneTree<T>(tree: T): T {
  return mapTree(tree, (tensor) => cloneTensor(tensor));
}

/**
 * Frees `old` and returns `next`, so that replacing a value is one statement: `state = replaceTree(state, next)`.
 * Tensors that are in both trees are kept.
 */
export function replaceTree<T>(old: TensorTree, next: T): T {
  const kept = new Set(listTensors(next).map((tensor) => tensor.id));
  for (const tensor of listTensors(old)) if (!kept.has(tensor.id) && !tensor.isDisposed) tensor.dispose();
  return next;
}

/** How many tensors a tree holds, or, without an argument, how many live in the process. */
export function countTensors(tree?: TensorTree): number {
  return tree === undefined ? engine().state.numTensors : listTensors(tree).length;
}

/**
 * A second handle on a tensor: shares the buffer, owned by the caller. Costs a reference count on every engine (`tf.clone`
 * copies on wasm); while a tape records, it is `tf.clone`, so that gradients pass.
 *
 * @param tensor - `[…]`, borrowed
 */
export function cloneTensor<T extends Tensor>(tensor: T): T {
  const active = engine();
  const { gradientDepth, kernelDepth } = active.state;
  if ((gradientDepth > 0 && kernelDepth === 0) || tensor.isDisposed) return clone(tensor);
  const { dataId, shape, dtype } = tensor;
  active.backend.incRef(dataId);
  return active.makeTensorFromTensorInfo({ dataId, shape, dtype }) as T;
}

/**
 * A tensor's values on the host.
 *
 * @param tensor - `[…]`, borrowed
 * @returns a typed array of its own; writing it does not change the tensor
 */
export async function readHost(tensor: Tensor): Promise<TypedArray> {
  return (await tensor.data()) as TypedArray;
}

/**
 * A tensor's values on the host, blocking until they are computed.
 *
 * @param tensor - `[…]`, borrowed
 * @returns a typed array to read; do not write it (a backend may share it with the tensor)
 */
export function readHostSync(tensor: Tensor): TypedArray {
  return tensor.dataSync() as TypedArray;
}

function isPromise(value: unknown): value is Promise<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  );
}
