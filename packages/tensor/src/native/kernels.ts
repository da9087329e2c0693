/**
 * @file The native kernels as data: one row per TensorFlow operator of our addon, and how a row is run.
 *
 * Signatures are those of `docs/architecture/operations.md`. Inputs are one flat list; how many tensors a list input has
 * follows from the number of inputs, so callers never pass counts. A call goes straight to the binding:
 * no TensorFlow.js kernel look-up, no tape, a few microseconds.
 */
import { getKernel, registerKernel } from '@tensorflow/tfjs';
import type { Tensor, TensorInfo } from '@tensorflow/tfjs';

import { MoebiusError } from '@moebius/core';

import { executeRaw, nativeBackend } from './raw-op.ts';
import type { RawAttribute, RawBackend } from './raw-op.ts';

/** Attribute values of a kernel call, by the names of the operator table. */
export type NativeAttributes = { readonly [name: string]: number | string | boolean };

/** Runs one operator: flat inputs in table order, borrowed; outputs owned by the caller. */
export type NativeKernel = (inputs: readonly TensorInfo[], attributes?: NativeAttributes) => Tensor[];

/** List inputs and outputs, which all have the same length, and the operator attribute that holds it. */
interface KernelLists {
  readonly attribute: string;
  readonly inputs: number;
  readonly outputs: number;
}

interface KernelRow {
  readonly name: string;
  /** Inputs that are not lists. */
  readonly inputs: number;
  /** By name; `?` marks one that may be left out (the operator has a default). */
  readonly attributes?: { readonly [name: string]: 'int' | 'float' | 'float?' | 'string' };
  /** Outputs that are not lists. */
  readonly outputs: number;
  readonly lists?: KernelLists;
}

const attention = { heads: 'int', kv_heads: 'int', scale: 'float' } as const;
const fullAttention = { batch: 'int', ...attention } as const;
const experts = (inputs: number, outputs: number): KernelLists => ({
  attribute: 'experts',
  inputs,
  outputs,
});
const list = (inputs: number, outputs: number): KernelLists => ({
  attribute: 'count',
  inputs,
  outputs,
});

const rows: readonly KernelRow[] = [
  { name: 'MoebiusRmsNorm', inputs: 2, attributes: { epsilon: 'float' }, outputs: 2 },
  { name: 'MoebiusRmsNormGrad', inputs: 4, outputs: 2 },
  { name: 'MoebiusRmsNormGradAdd', inputs: 5, outputs: 2 },
  { name: 'MoebiusHeadNormRope', inputs: 5, attributes: { heads: 'int', epsilon: 'float' }, outputs: 2 },
  { name: 'MoebiusHeadNormRopeGrad', inputs: 7, attributes: { heads: 'int' }, outputs: 2 },
  { name: 'MoebiusAttention', inputs: 3, attributes: fullAttention, outputs: 2 },
  { name: 'MoebiusAttentionGrad', inputs: 6, attributes: fullAttention, outputs: 3 },
  { name: 'MoebiusCachedAttention', inputs: 6, attributes: attention, outputs: 1 },
  {
    name: 'MoebiusExpertFeedForward',
    inputs: 6,
    attributes: { activation: 'string' },
    outputs: 3,
    lists: experts(3, 0),
  },
  {
    name: 'MoebiusExpertFeedForwardGrad',
    inputs: 9,
    attributes: { activation: 'string' },
    outputs: 2,
    lists: experts(3, 3),
  },
  { name: 'MoebiusGroupedMatMul', inputs: 2, outputs: 1, lists: experts(1, 0) },
  { name: 'MoebiusGroupedMatMulGrad', inputs: 3, outputs: 1, lists: experts(1, 1) },
  { name: 'MoebiusGatherRows', inputs: 2, outputs: 1 },
  { name: 'MoebiusCombineRows', inputs: 4, outputs: 1 },
  { name: 'MoebiusScatterScores', inputs: 2, attributes: { tokens: 'int', experts: 'int' }, outputs: 1 },
  { name: 'MoebiusEmbeddingGrad', inputs: 2, attributes: { vocabulary: 'int' }, outputs: 1 },
  {
    name: 'MoebiusSoftmaxCrossEntropy',
    inputs: 2,
    attributes: { ignore_index: 'int', z_loss: 'float', gradient_scale: 'float?' },
    outputs: 3,
  },
  { name: 'MoebiusGlobalNorm', inputs: 0, outputs: 1, lists: list(1, 0) },
  { name: 'MoebiusAdamW', inputs: 3, outputs: 0, lists: list(4, 0) },
  { name: 'MoebiusLinear', inputs: 1, outputs: 0, lists: list(1, 1) },
  { name: 'MoebiusLinearGrad', inputs: 1, outputs: 1, lists: list(2, 1) },
  { name: 'MoebiusLinearAdd', inputs: 3, outputs: 1 },
  {
    name: 'MoebiusNormLinear',
    inputs: 2,
    attributes: { epsilon: 'float' },
    outputs: 0,
    lists: list(1, 1),
  },
  {
    name: 'MoebiusCachedBlock',
    inputs: 14,
    attributes: { ...attention, epsilon: 'float' },
    outputs: 1,
  },
  {
    name: 'MoebiusRoutedBlock',
    inputs: 3,
    attributes: { top_k: 'int', normalize: 'int', scale: 'float', epsilon: 'float', activation: 'string' },
    outputs: 3,
    lists: experts(3, 0),
  },
];

/** Names of all native kernels. */
export const nativeKernelNames: readonly string[] = rows.map((row) => row.name);

const rowsByName: ReadonlyMap<string, KernelRow> = new Map(rows.map((row) => [row.name, row]));

function runRow(
  backend: RawBackend,
  row: KernelRow,
  inputs: readonly TensorInfo[],
  given: NativeAttributes,
): Tensor[] {
  const { binding } = backend;
  const attributes: RawAttribute[] = [];
  let outputs = row.outputs;
  if (row.lists !== undefined) {
    const count = (inputs.length - row.inputs) / row.lists.inputs;
    if (!Number.isInteger(count) || count < 1) throw countError(row, inputs.length);
    attributes.push({ name: row.lists.attribute, type: binding.TF_ATTR_INT, value: count });
    outputs += row.lists.outputs * count;
  } else if (inputs.length !== row.inputs) {
    throw countError(row, inputs.length);
  }
  for (const name in row.attributes) {
    const kind = row.attributes[name];
    const value = given[name];
    if (value === undefined && kind === 'float?') continue;
    if (value === undefined) {
      throw new MoebiusError({
        code: 'internal',
        message: `internal: ${row.name} attribute ${name}: must be given, got undefined`,
        details: { kernel: row.name, attribute: name },
      });
    }
    const type =
      kind === 'int'
        ? binding.TF_ATTR_INT
        : kind === 'string'
          ? binding.TF_ATTR_STRING
          : binding.TF_ATTR_FLOAT;
    attributes.push({ name, type, value });
  }
  return executeRaw(backend, row.name, { inputs, attributes, outputs });
}

function countError(row: KernelRow, got: number): MoebiusError {
  const lists = row.lists === undefined ? '' : ` plus ${row.lists.inputs} per ${row.lists.attribute}`;
  return new MoebiusError({
    code: 'internal',
    message: `internal: ${row.name} inputs: must be ${row.inputs}${lists}, got ${got}`,
    details: { kernel: row.name, expected: row.inputs, got },
  });
}

/**
 * Registers every native kernel with TensorFlow.js under its operator name. Call it once the native backend runs on an
 * addon that holds our operators; calling it again does nothing.
 */
export function registerNativeKernels(): void {
  const backend = nativeBackend();
  for (const row of rows) {
    if (getKernel(row.name, 'tensorflow') != null) continue;
    registerKernel({
      kernelName: row.name,
      backendName: 'tensorflow',
      kernelFunc: ({ inputs, attrs }) =>
        runRow(
          backend,
          row,
          inputs as unknown as readonly TensorInfo[],
          (attrs ?? {}) as unknown as NativeAttributes,
        ),
    });
  }
}

/**
 * The fastest way to call one operator of the running native engine.
 *
 * @param name - operator name
 * @returns a function, or undefined when the current backend has no such kernel
 */
export function nativeKernel(name: string): NativeKernel | undefined {
  const row = rowsByName.get(name);
  if (row === undefined || getKernel(name, 'tensorflow') == null) return undefined;
  const backend = nativeBackend();
  return (inputs, attributes = {}) => runRow(backend, row, inputs, attributes);
}
