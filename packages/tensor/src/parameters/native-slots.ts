/**
 * @file Parameters as TensorFlow resource variables, updated in place by the fused AdamW kernel.
 *
 * A value somebody still holds keeps its old numbers: TensorFlow copies that variable before it writes. So the store
 * frees its own read before an update.
 */
import { keep, tensor1d, zerosLike } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { MoebiusError } from '@moebius/core';

import { nativeKernel } from '../native/kernels.ts';
import { createResourceVariable } from '../native/resource-variable.ts';
import type { ResourceVariable } from '../native/resource-variable.ts';
import { runOp } from '../ownership.ts';
import type { AdamWPart, AdamWStep, Moments, ParameterSlot, SlotKind } from './parameter-slot.ts';

/** Kernel calls take at most this many parameters: bounds the list inputs of one operator. */
const partsPerCall = 1024;

/**
 * Slots inside TensorFlow.
 *
 * @param scope - unique in the process: part of the variables' names
 */
export function createNativeSlots(scope: string): SlotKind {
  let made = 0;
  return {
    create: (value) => {
      made += 1;
      return new NativeSlot(value, `${scope}/${made}`);
    },
    adamW: (parts, step) => {
      for (let begin = 0; begin < parts.length; begin += partsPerCall) {
        updateSlots(parts.slice(begin, begin + partsPerCall), step);
      }
    },
  };
}

class NativeSlot implements ParameterSlot {
  readonly shape: readonly number[];
  readonly #name: string;
  readonly value: ResourceVariable;
  #first: ResourceVariable | undefined;
  #second: ResourceVariable | undefined;
  #held: Tensor | undefined;
  step = 0;

  constructor(value: Tensor, name: string) {
    this.shape = value.shape;
    this.#name = name;
    this.value = createResourceVariable(value, `${name}/value`);
  }

  read(): Tensor {
    this.#held ??= keep(this.value.read());
    return this.#held;
  }

  assign(value: Tensor): void {
    this.release();
    this.value.assign(value);
  }

  holdMoments(): Moments | undefined {
    if (this.step === 0) return undefined;
    const { first, second } = this.moments();
    return { first: keep(first.read()), second: keep(second.read()), step: this.step };
  }

  assignMoments({ first, second, step }: Moments): void {
    const own = this.moments();
    own.first.assign(first);
    own.second.assign(second);
    this.step = step;
  }

  /** The moments' variables, made of zeros at first use. */
  moments(): { first: ResourceVariable; second: ResourceVariable } {
    if (this.#first === undefined || this.#second === undefined) {
      const zeros = zerosLike(this.read());
      this.#first = createResourceVariable(zeros, `${this.#name}/first`);
      // Each variable gets a buffer of its own: one shared buffer would be copied at the first update.
      const more = zerosLike(this.read());
      this.#second = createResourceVariable(more, `${this.#name}/second`);
      zeros.dispose();
      more.dispose();
    }
    return { first: this.#first, second: this.#second };
  }

  /** Frees the store's own read, so that an update needs no copy. */
  release(): void {
    this.#held?.dispose();
    this.#held = undefined;
  }

  dispose(): void {
    this.release();
    this.value.dispose();
    this.#first?.dispose();
    this.#second?.dispose();
  }
}

function updateSlots(parts: readonly AdamWPart[], step: AdamWStep): void {
  const kernel = nativeKernel('MoebiusAdamW');
  if (kernel === undefined) {
    throw new MoebiusError({
      code: 'internal',
      message: 'internal: MoebiusAdamW must be registered, got none',
    });
  }
  const slots = parts.map(({ slot }) => slot as NativeSlot);
  runOp('adamW', () => {
    const moments = slots.map((slot) => slot.moments());
    for (const slot of slots) slot.release();
    const { lr, beta1, beta2, epsilon, gradientScale } = step;
    kernel([
      ...slots.map((slot) => slot.value.handle),
      ...moments.map(({ first }) => first.handle),
      ...moments.map(({ second }) => second.handle),
      ...parts.map(({ gradient }) => gradient),
      tensor1d([lr, beta1 ** step.step, beta2 ** step.step, beta1, beta2, epsilon], 'float32'),
      tensor1d([gradientScale], 'float32'),
      tensor1d(
        parts.map(({ weightDecay }) => weightDecay),
        'float32',
      ),
    ]);
  });
  for (const slot of slots) slot.step = step.step;
}
