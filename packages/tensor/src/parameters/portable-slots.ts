/**
 * @file Parameters as plain tensors and AdamW in TensorFlow.js operations: runs on every engine.
 *
 * AdamW (Loshchilov and Hutter 2019) with PyTorch's order: `p ← p (1 − lr·λ)`; `m ← β₁ m + (1−β₁) g`;
 * `v ← β₂ v + (1−β₂) g²`; `p ← p − lr/(1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε)`.
 */
import { add, div, keep, mul, sqrt, square, sub, zerosLike } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { cloneTensor, runOp } from '../ownership.ts';
import type { AdamWPart, AdamWStep, Moments, ParameterSlot, SlotKind } from './parameter-slot.ts';

/** Slots that hold tensors. */
export const portableSlots: SlotKind = {
  create: (value) => new PortableSlot(value),
  adamW: (parts, step) => {
    for (const part of parts) updateSlot(part, step);
  },
};

class PortableSlot implements ParameterSlot {
  readonly shape: readonly number[];
  #value: Tensor;
  #moments: Moments | undefined;

  constructor(value: Tensor) {
    this.shape = value.shape;
    this.#value = own(value);
  }

  get step(): number {
    return this.#moments?.step ?? 0;
  }

  read(): Tensor {
    return this.#value;
  }

  assign(value: Tensor): void {
    const next = own(value);
    this.#value.dispose();
    this.#value = next;
  }

  holdMoments(): Moments | undefined {
    if (this.#moments === undefined) return undefined;
    const { first, second, step } = this.#moments;
    return { first: own(first), second: own(second), step };
  }

  assignMoments({ first, second, step }: Moments): void {
    const next = { first: own(first), second: own(second), step };
    this.#dropMoments();
    this.#moments = next;
  }

  dispose(): void {
    this.#value.dispose();
    this.#dropMoments();
  }

  #dropMoments(): void {
    this.#moments?.first.dispose();
    this.#moments?.second.dispose();
    this.#moments = undefined;
  }
}

/** A handle that outlives every scope. */
function own(tensor: Tensor): Tensor {
  return keep(cloneTensor(tensor));
}

function updateSlot(part: AdamWPart, step: AdamWStep): void {
  const { slot, weightDecay } = part;
  const { lr, beta1, beta2, epsilon, gradientScale } = step;
  runOp('adamW', () => {
    const value = slot.read();
    const before = slot.holdMoments();
    const gradient = mul(part.gradient, gradientScale);
    const first = add(mul(before?.first ?? zerosLike(value), beta1), mul(gradient, 1 - beta1));
    const second = add(mul(before?.second ?? zerosLike(value), beta2), mul(square(gradient), 1 - beta2));
    before?.first.dispose();
    before?.second.dispose();
    const rootCorrection = Math.sqrt(1 - beta2 ** step.step);
    const denominator = add(div(sqrt(second), rootCorrection), epsilon);
    const move = mul(div(first, denominator), lr / (1 - beta1 ** step.step));
    slot.assign(sub(mul(value, 1 - lr * weightDecay), move));
    slot.assignMoments({ first, second, step: step.step });
  });
}
