/**
 * @file What an optimizer is: data. A definition turns checked settings into a rule for each parameter; a rule has a
 * name, the tensors it keeps, and one pure step.
 *
 * ```
 *   settings ──► definition.check ──► definition.rules(settings)(id, shape) ──► rule
 *   rule.update([{ value, gradient, state, lr, weightDecay }, …], step) ──► [{ value, state }, …]
 * ```
 * The store owns values and state, clips, groups parameters of one shape, and calls the rule. A rule that names a fused
 * kernel is run by that kernel, in place, where the engine has it.
 */
import { definePlugin } from '@moebius/core';
import type { Plugin } from '@moebius/core';
import type { Tensor } from '@tensorflow/tfjs';

/** Identifies a parameter, for example `model.layers.3.mlp.experts.17.up_proj.weight`. */
export type ParameterId = string;

/** Weight decay of the parameters whose id matches. */
export interface WeightDecayRule {
  /** Source of a regular expression, tried on the id. */
  readonly pattern: string;
  /** Weight decay. */
  readonly weightDecay: number;
}

/** Settings that every optimizer has. */
export interface CommonSettings {
  /** Learning rate. */
  readonly lr: number;
  /** One decay for all, or rules of which the first match counts (none: 0); default: the optimizer's. */
  readonly weightDecay?: number | readonly WeightDecayRule[];
}

/** What a rule keeps for one parameter: float32 tensors of the parameter's shape, by slot. */
export type RuleState = { readonly [slot: string]: Tensor };

/** One parameter's part of a step. All tensors are borrowed. */
export interface RulePart {
  /** Which parameter. */
  readonly id: ParameterId;
  /** float32 `[…]`. */
  readonly value: Tensor;
  /** float32, shape of the parameter, accumulation and clipping applied. */
  readonly gradient: Tensor;
  /** Every slot of the rule; zeros before the first update. */
  readonly state: RuleState;
  /** Learning rate of this parameter. */
  readonly lr: number;
  /** Weight decay of this parameter. */
  readonly weightDecay: number;
}

/** What a step makes of one parameter; the store takes copies of the handles. */
export interface RuleResult {
  /** float32, shape of the parameter. */
  readonly value: Tensor;
  /** Every slot of the rule. */
  readonly state: RuleState;
}

/** How parameters are changed by their gradients. */
export interface UpdateRule {
  /** Kept with the state: that of another rule is refused. */
  readonly name: string;
  /** What it keeps for each parameter. */
  readonly slots: readonly string[];
  /**
   * One step, in TensorFlow.js operations, inside a scope of the store.
   *
   * @param parts - parameters of one shape, which may be stacked and computed at once
   * @param step - number of this update for all of them, from 1
   * @returns one result for each part, in order
   */
  update(parts: readonly RulePart[], step: number): readonly RuleResult[];
  /** The same step as a native kernel that works in place. */
  readonly fused?: FusedUpdate;
}

/** A native kernel that does a rule's step on resource variables. */
export interface FusedUpdate {
  /** Its operator; its inputs are values, the slots in order, gradients, and then `operands`. */
  readonly kernel: string;
  /** The last inputs, float32; made in a scope of the store. */
  operands(call: FusedCall): Tensor[];
}

/** What one call of a fused kernel has in common. */
export interface FusedCall {
  /** Number of this update, from 1. */
  readonly step: number;
  /** Multiplies every gradient first (accumulation and clipping). */
  readonly gradientScale: number;
  /** Learning rate of all parameters of the call. */
  readonly lr: number;
  /** Weight decay of each. */
  readonly weightDecays: readonly number[];
}

/** Chooses the rule of a parameter by id and shape. Rules are compared by identity: make each once. */
export type RuleChoice = (id: ParameterId, shape: readonly number[]) => UpdateRule;

/** An optimizer. */
export interface OptimizerDefinition<S extends CommonSettings = CommonSettings> extends Plugin {
  readonly kind: 'optimizer';
  /** Its name in configurations. */
  readonly name: string;
  /** Weight decay when settings give none. */
  readonly weightDecay: number;
  /** What is wrong with settings, one phrase each; `lr` and `weightDecay` are checked by the store. */
  check(settings: S): readonly string[];
  /** The rules of checked settings. */
  rules(settings: S): RuleChoice;
}

/**
 * Defines an optimizer. `store.update(gradients, { optimizer: { kind: definition, lr } })` runs it.
 *
 * @example
 * ```ts
 * const rule: UpdateRule = {
 *   name: 'plain-descent',
 *   slots: [],
 *   update: (parts) => parts.map(({ value, gradient, lr }) => ({ value: sub(value, mul(gradient, lr)), state: {} })),
 * };
 * const plainDescent = defineOptimizer({ name: 'plain-descent', weightDecay: 0, check: () => [], rules: () => () => rule });
 * const optimizer: OptimizerSettings = { kind: plainDescent, lr: 0.1 };
 * ```
 * @throws `plugin` when the name is not kebab-case
 */
export function defineOptimizer<S extends CommonSettings>(
  definition: Omit<OptimizerDefinition<S>, 'kind'>,
): OptimizerDefinition<S> {
  return definePlugin({ ...definition, kind: 'optimizer' as const });
}

/** A fault when a setting is out of range, for {@link OptimizerDefinition.check}. */
export function outOfRange(name: string, value: number, good: boolean, expectation: string): string[] {
  return good ? [] : [`${name} must be ${expectation}, got ${value}`];
}
