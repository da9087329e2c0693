/**
 * @file Parameters as plain tensors: runs on every engine.
 */
import { keep } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { cloneTensor, disposeTree, mapTree } from '../ownership.ts';
import { applyRule } from './apply-rule.ts';
import type { OptimizerState, ParameterSlot, SlotKind } from './parameter-slot.ts';

/** Slots that hold tensors. */
export const portableSlots: SlotKind = {
  create: (value) => new PortableSlot(value),
  update: applyRule,
};

class PortableSlot implements ParameterSlot {
  readonly shape: readonly number[];
  #value: Tensor;
  #state: OptimizerState | undefined;

  constructor(value: Tensor) {
    this.shape = value.shape;
    this.#value = own(value);
  }

  get step(): number {
    return this.#state?.step ?? 0;
  }

  get rule(): string | undefined {
    return this.#state?.rule;
  }

  read(): Tensor {
    return this.#value;
  }

  assign(value: Tensor): void {
    const next = own(value);
    this.#value.dispose();
    this.#value = next;
  }

  holdState(): OptimizerState | undefined {
    return this.#state === undefined ? undefined : mapTree(this.#state, own);
  }

  assignState(state: OptimizerState): void {
    const next = mapTree(state, own);
    this.clearState();
    this.#state = next;
  }

  clearState(): void {
    disposeTree(this.#state);
    this.#state = undefined;
  }

  dispose(): void {
    this.#value.dispose();
    this.clearState();
  }
}

/** A handle that outlives every scope. */
function own(tensor: Tensor): Tensor {
  return keep(cloneTensor(tensor));
}
