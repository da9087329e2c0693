/**
 * @file Where one parameter and its optimizer's state lie. Portable slots hold tensors; native slots hold resource
 * variables that are updated in place.
 */
import type { Tensor } from '@tensorflow/tfjs';

import type { ParameterId, RuleState, UpdateRule } from './optimizer.ts';

/** What an optimizer keeps for one parameter. */
export interface OptimizerState {
  /** The rule that keeps it, for example `adamw`. */
  readonly rule: string;
  /** Updates so far, at least 1. */
  readonly step: number;
  /** float32 tensors of the parameter's shape, by the rule's slot: for AdamW `first` and `second` moment. */
  readonly slots: RuleState;
}

/** One parameter with its optimizer's state. */
export interface ParameterSlot {
  /** Shape of the parameter. */
  readonly shape: readonly number[];
  /** Updates so far; 0: no state yet. */
  readonly step: number;
  /** The rule whose state it has; undefined: none yet. */
  readonly rule: string | undefined;
  /** The value, borrowed until the next change. */
  read(): Tensor;
  /** Replaces the value; the tensor is borrowed. */
  assign(value: Tensor): void;
  /** Handles on the state that keep its values, owned by the caller; undefined before the first update. */
  holdState(): OptimizerState | undefined;
  /** Replaces the state; the tensors are borrowed. */
  assignState(state: OptimizerState): void;
  /** Frees the state: the next update is the first. */
  clearState(): void;
  /** Frees everything. */
  dispose(): void;
}

/** One parameter's part of an update. */
export interface SlotPart {
  /** Which parameter. */
  readonly id: ParameterId;
  /** What is updated. */
  readonly slot: ParameterSlot;
  /** float32, shape of the parameter, borrowed. */
  readonly gradient: Tensor;
  /** Learning rate. */
  readonly lr: number;
  /** Weight decay. */
  readonly weightDecay: number;
}

/** Numbers of a step that are the same for every parameter of a call. */
export interface SlotStep {
  /** Multiplies every gradient first (accumulation and clipping). */
  readonly gradientScale: number;
  /** Number of this update, from 1. */
  readonly step: number;
}

/** Makes and updates the slots of one engine. */
export interface SlotKind {
  /** A slot with this value; the tensor is borrowed. */
  create(value: Tensor): ParameterSlot;
  /** One step of a rule on slots of this kind that have all seen `step − 1` updates. */
  update(rule: UpdateRule, parts: readonly SlotPart[], step: SlotStep): void;
}
