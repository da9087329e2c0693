/**
 * @file Parameters as TensorFlow resource variables, updated in place by rules that have a fused kernel; other rules
 * replace the value.
 *
 * A value somebody still holds keeps its old numbers: TensorFlow copies that variable before it writes. So the store
 * frees its own read before an update.
 */
import { keep, zerosLike } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import type { NativeKernel } from '../native/kernels.ts';
import { createResourceVariable } from '../native/resource-variable.ts';
import type { ResourceVariable } from '../native/resource-variable.ts';
import { runOp } from '../ownership.ts';
import { applyRule } from './apply-rule.ts';
import type { FusedUpdate, UpdateRule } from './optimizer.ts';
import type { OptimizerState, ParameterSlot, SlotKind, SlotPart, SlotStep } from './parameter-slot.ts';

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
    update: (rule, parts, step) => {
      const kernel = rule.fused === undefined ? undefined : nativeKernel(rule.fused.kernel);
      if (rule.fused === undefined || kernel === undefined) return applyRule(rule, parts, step);
      for (const call of callsOf(parts))
        updateInPlace(kernel, { ...rule, fused: rule.fused }, { parts: call, step });
    },
  };
}

class NativeSlot implements ParameterSlot {
  readonly shape: readonly number[];
  readonly #name: string;
  readonly value: ResourceVariable;
  readonly #cells: { [slot: string]: ResourceVariable } = {};
  #held: Tensor | undefined;
  step = 0;
  rule: string | undefined;

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

  holdState(): OptimizerState | undefined {
    if (this.rule === undefined) return undefined;
    const slots = Object.entries(this.#cells).map(([slot, cell]) => [slot, keep(cell.read())] as const);
    return { rule: this.rule, step: this.step, slots: Object.fromEntries(slots) };
  }

  assignState({ rule, step, slots }: OptimizerState): void {
    for (const stale of Object.keys(this.#cells).filter((slot) => !(slot in slots))) this.#drop(stale);
    for (const [slot, value] of Object.entries(slots)) {
      const cell = this.#cells[slot];
      if (cell === undefined) this.#cells[slot] = createResourceVariable(value, `${this.#name}/${slot}`);
      else cell.assign(value);
    }
    this.noteStep(rule, step);
  }

  clearState(): void {
    for (const slot of Object.keys(this.#cells)) this.#drop(slot);
    this.step = 0;
    this.rule = undefined;
  }

  /** The variable of a slot, made of zeros at first use: with a buffer of its own, since a shared one would be copied. */
  cell(slot: string): ResourceVariable {
    const made = this.#cells[slot];
    if (made !== undefined) return made;
    const zeros = zerosLike(this.read());
    const cell = createResourceVariable(zeros, `${this.#name}/${slot}`);
    zeros.dispose();
    this.#cells[slot] = cell;
    return cell;
  }

  /** What a kernel did to it. */
  noteStep(rule: string, step: number): void {
    this.rule = rule;
    this.step = step;
  }

  /** Frees the store's own read, so that an update needs no copy. */
  release(): void {
    this.#held?.dispose();
    this.#held = undefined;
  }

  dispose(): void {
    this.release();
    this.value.dispose();
    this.clearState();
  }

  #drop(slot: string): void {
    this.#cells[slot]?.dispose();
    delete this.#cells[slot];
  }
}

/** Parts by learning rate, which is one for a kernel call, in pieces that are not too long. */
function callsOf(parts: readonly SlotPart[]): SlotPart[][] {
  const byRate = new Map<number, SlotPart[]>();
  for (const part of parts) {
    const same = byRate.get(part.lr);
    if (same === undefined) byRate.set(part.lr, [part]);
    else same.push(part);
  }
  const calls: SlotPart[][] = [];
  for (const same of byRate.values()) {
    for (let begin = 0; begin < same.length; begin += partsPerCall) {
      calls.push(same.slice(begin, begin + partsPerCall));
    }
  }
  return calls;
}

function updateInPlace(
  kernel: NativeKernel,
  rule: UpdateRule & { readonly fused: FusedUpdate },
  { parts, step }: { readonly parts: readonly SlotPart[]; readonly step: SlotStep },
): void {
  const slots = parts.map(({ slot }) => slot as NativeSlot);
  const weightDecays = parts.map(({ weightDecay }) => weightDecay);
  const { lr = 0 } = parts[0] ?? {};
  runOp(rule.name, () => {
    const cells = rule.slots.flatMap((name) => slots.map((slot) => slot.cell(name)));
    for (const slot of slots) slot.release();
    kernel([
      ...slots.map((slot) => slot.value.handle),
      ...cells.map((cell) => cell.handle),
      ...parts.map(({ gradient }) => gradient),
      ...rule.fused.operands({ ...step, lr, weightDecays }),
    ]);
  });
  for (const slot of slots) slot.noteStep(rule.name, step.step);
}
