/**
 * @file How an operation asks for a native kernel.
 *
 * The kernels of `docs/architecture/operations.md` are registered with TensorFlow.js under their operator names
 * for the native backend only. Inputs go in the table's order as one flat list; attributes by the table's names,
 * with `name_count` for every list.
 */
import { engine, getKernel } from '@tensorflow/tfjs';
import type { NamedAttrMap, NamedTensorMap, Tensor } from '@tensorflow/tfjs';

/** Attributes of a kernel call. */
export type KernelAttributes = { readonly [name: string]: number | string | boolean };

/**
 * Whether the active backend has a kernel of this name.
 *
 * @param name - operator name, for example `MoebiusRmsNorm`
 */
export function hasKernel(name: string): boolean {
  return getKernel(name, engine().backendName) != null;
}

/**
 * Runs a kernel of the active backend.
 *
 * @param name - operator name
 * @param inputs - flat list `[…]` in the operator's order, borrowed
 * @param attributes - by name
 * @returns the operator's outputs, owned by the caller
 */
export function runKernel(name: string, inputs: readonly Tensor[], attributes: KernelAttributes): Tensor[] {
  const output = engine().runKernel(
    name,
    inputs as unknown as NamedTensorMap,
    attributes as unknown as NamedAttrMap,
  );
  return (Array.isArray(output) ? output : [output]) as Tensor[];
}
