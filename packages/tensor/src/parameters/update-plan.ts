/**
 * @file Which rule changes which parameter by which rate and decay: a plan, without arithmetic.
 */
import { MoebiusError } from '@moebius/core';
import type { Tensor } from '@tensorflow/tfjs';

import type { ResolvedOptimizer } from './choose-optimizer.ts';
import type { ParameterId, UpdateRule } from './optimizer.ts';
import type { ParameterSlot, SlotPart } from './parameter-slot.ts';

/** What is different for one parameter. */
export interface ParameterTreatment {
  /** Multiplies the learning rate; default 1. */
  readonly learningRateScale?: number;
  /** Weight decay instead of the optimizer's. */
  readonly weightDecay?: number;
  /** Whether it stays as it is: no state, no part in the clipped norm, no version. Default false. */
  readonly frozen?: boolean;
}

/** Treatments by parameter; others are treated as the optimizer says. */
export type Treatments = { readonly [id: ParameterId]: ParameterTreatment };

/** Parameters that one rule changes, all with the same number of updates behind them. */
export interface UpdateCall {
  readonly rule: UpdateRule;
  /** Number of this update, from 1. */
  readonly step: number;
  readonly parts: readonly SlotPart[];
}

/** A parameter with its gradient. */
export interface NamedGradient {
  readonly id: ParameterId;
  readonly slot: ParameterSlot;
  readonly gradient: Tensor;
}

/**
 * Groups parameters into calls of rules.
 *
 * @param named - those that are not frozen
 * @throws `configuration` when a parameter has the state of another rule, or a treatment is out of range
 */
export function planUpdate(
  named: readonly NamedGradient[],
  optimizer: ResolvedOptimizer,
  treatments: Treatments,
): readonly UpdateCall[] {
  const calls = new Map<UpdateRule, Map<number, SlotPart[]>>();
  for (const { id, slot, gradient } of named) {
    const rule = optimizer.ruleOf(id, slot.shape);
    assertOwnState(id, slot, rule);
    const { learningRateScale = 1, weightDecay = optimizer.decayOf(id) } = treatments[id] ?? {};
    assertInRange(id, 'learningRateScale', learningRateScale);
    assertInRange(id, 'weightDecay', weightDecay);
    const bySteps = calls.get(rule) ?? new Map<number, SlotPart[]>();
    calls.set(rule, bySteps);
    const parts = bySteps.get(slot.step + 1) ?? [];
    bySteps.set(slot.step + 1, parts);
    parts.push({ id, slot, gradient, lr: optimizer.lr * learningRateScale, weightDecay });
  }
  return [...calls].flatMap(([rule, bySteps]) =>
    [...bySteps].map(([step, parts]) => ({ rule, step, parts })),
  );
}

function assertOwnState(id: ParameterId, slot: ParameterSlot, rule: UpdateRule): void {
  if (slot.rule === undefined || slot.rule === rule.name) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `optimizer: must be the one whose state the parameters have, got "${rule.name}" for ${id}, which "${slot.rule}" has updated ${slot.step} times (go on with that one, or forget its state with clearOptimizerState)`,
    details: { id, rule: rule.name, stateOf: slot.rule, step: slot.step },
  });
}

function assertInRange(id: ParameterId, name: string, value: number): void {
  if (Number.isFinite(value) && value >= 0) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `treatment of ${id}: ${name} must be at least 0, got ${value}`,
    details: { id, name, value },
  });
}
