/**
 * @file A float32 variable that lives inside TensorFlow, so that optimiser kernels update it in place.
 *
 * A value that was read and is still held is never changed: TensorFlow then copies the variable before it writes. Free
 * reads before an update to avoid that copy.
 */
import { keep } from '@tensorflow/tfjs';
import type { Tensor, TensorInfo } from '@tensorflow/tfjs';

import { MoebiusError } from '@moebius/core';

import { executeRaw, nativeBackend } from './raw-op.ts';
import type { RawAttribute, RawBackend } from './raw-op.ts';

/** A float32 variable inside TensorFlow, updated in place by kernels such as `MoebiusAdamW`. */
export interface ResourceVariable {
  /** Its resource handle: only an input of operators that take a resource. Owned by the variable. */
  readonly handle: TensorInfo;
  readonly shape: readonly number[];
  /** The present value `[...shape]`, without copying. Caller owns. */
  read(): Tensor;
  /** Replaces the value. Borrows `value`, float32 `[...shape]`. */
  assign(value: Tensor): void;
  /** Frees the variable; values read before stay valid. */
  dispose(): void;
}

class TensorFlowVariable implements ResourceVariable {
  readonly shape: readonly number[];
  readonly handle: Tensor;
  readonly #backend: RawBackend;
  readonly #name: string;
  readonly #type: readonly RawAttribute[];

  constructor(backend: RawBackend, shape: readonly number[], name: string) {
    const { binding } = backend;
    this.shape = shape;
    this.#backend = backend;
    this.#name = name;
    this.#type = [{ name: 'dtype', type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT }];
    const attributes = [
      { name: 'container', type: binding.TF_ATTR_STRING, value: '' },
      { name: 'shared_name', type: binding.TF_ATTR_STRING, value: name },
      { name: 'shape', type: binding.TF_ATTR_SHAPE, value: shape },
      ...this.#type,
    ];
    const [handle] = executeRaw(backend, 'VarHandleOp', { inputs: [], attributes, outputs: 1 });
    this.handle = keep(handle as Tensor);
  }

  read(): Tensor {
    const call = { inputs: [this.handle], attributes: this.#type, outputs: 1 };
    return executeRaw(this.#backend, 'ReadVariableOp', call)[0] as Tensor;
  }

  assign(value: Tensor): void {
    if (value.dtype !== 'float32' || value.shape.join() !== this.shape.join()) {
      const got = `${value.dtype} [${value.shape.join()}]`;
      throw new MoebiusError({
        code: 'shape',
        message: `variable ${this.#name}: must be assigned float32 [${this.shape.join()}], got ${got}`,
        details: { name: this.#name, expected: [...this.shape], got: [...value.shape] },
      });
    }
    const call = { inputs: [this.handle, value], attributes: this.#type, outputs: 0 };
    executeRaw(this.#backend, 'AssignVariableOp', call);
  }

  dispose(): void {
    const type = this.#backend.binding.TF_ATTR_BOOL;
    const attributes = [{ name: 'ignore_lookup_error', type, value: true }];
    executeRaw(this.#backend, 'DestroyResourceOp', { inputs: [this.handle], attributes, outputs: 0 });
    this.handle.dispose();
  }
}

/**
 * Creates a variable inside TensorFlow and gives it a value. Native engine only.
 *
 * @param value - float32 `[D0, D1, …]`, any shape, borrowed
 * @param name - unique in the process: two variables of one name would share their memory
 * @returns caller owns; free with `dispose`
 * @throws `engine` when another engine runs
 */
export function createResourceVariable(value: Tensor, name: string): ResourceVariable {
  const variable = new TensorFlowVariable(nativeBackend(), [...value.shape], name);
  variable.assign(value);
  return variable;
}
