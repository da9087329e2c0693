/**
 * @file Raw TensorFlow operators through tfjs-node's binding, for what TensorFlow.js has no operation for.
 */
import { backend as currentBackend, engine } from '@tensorflow/tfjs';
import type { Tensor, TensorInfo } from '@tensorflow/tfjs';

import { MoebiusError } from '@moebius/core';

/** An operator attribute as the binding takes it. */
export interface RawAttribute {
  readonly name: string;
  /** One of the binding's `TF_ATTR_…` numbers. */
  readonly type: number;
  readonly value: number | string | boolean | readonly number[];
}

interface RawMetadata {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: number;
}

/** What we use of the binding. */
export interface RawBinding {
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_SHAPE: number;
  readonly TF_FLOAT: number;
  executeOp(
    name: string,
    attributes: readonly RawAttribute[],
    inputs: readonly number[],
    outputs: number,
  ): RawMetadata[];
  deleteTensor(id: number): void;
}

/** What we use of tfjs-node's backend. */
export interface RawBackend {
  readonly binding: RawBinding;
  getInputTensorIds(inputs: readonly TensorInfo[]): number[];
  createOutputTensor(metadata: RawMetadata): Tensor;
}

/** A call of one operator. */
export interface RawCall {
  /** Borrowed. */
  readonly inputs: readonly TensorInfo[];
  readonly attributes: readonly RawAttribute[];
  /** How many outputs the operator has. */
  readonly outputs: number;
}

/**
 * The running native backend.
 *
 * @throws `engine` when TensorFlow.js runs on another one
 */
export function nativeBackend(): RawBackend {
  if (engine().backendName !== 'tensorflow') {
    throw new MoebiusError({
      code: 'engine',
      message: `backend: must be the native engine, got ${engine().backendName} (createEngine({ engine: 'native' }))`,
      details: { backend: engine().backendName },
    });
  }
  return currentBackend() as unknown as RawBackend;
}

/**
 * Runs one TensorFlow operator.
 *
 * @param backend - the native backend
 * @param name - operator name, for example `ReadVariableOp`
 * @returns its outputs, owned by the caller (or the enclosing tidy)
 */
export function executeRaw(backend: RawBackend, name: string, call: RawCall): Tensor[] {
  const metadata = backend.binding.executeOp(
    name,
    call.attributes,
    backend.getInputTensorIds(call.inputs),
    call.outputs,
  );
  const outputs: Tensor[] = [];
  for (const one of metadata) outputs.push(backend.createOutputTensor(one));
  return outputs;
}
