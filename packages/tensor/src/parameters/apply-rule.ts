/**
 * @file Runs a rule's step in TensorFlow.js operations, on slots of any engine.
 *
 * Parameters of one shape go to the rule together, so that it may stack them, but never more than `groupElements` numbers at
 * once: the step's memory stays small beside the model's.
 */
import { MoebiusError } from '@moebius/core';
import { mul, zerosLike } from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

import { assertShape } from '../ops/assert-shape.ts';
import { disposeTree, runOp } from '../ownership.ts';
import type { RulePart, RuleResult, RuleState, UpdateRule } from './optimizer.ts';
import type { SlotPart, SlotStep } from './parameter-slot.ts';

/** 16 MiB of float32. */
const groupElements = 2 ** 22;

/** One step of a rule; parts have all seen `step − 1` updates. */
export function applyRule(rule: UpdateRule, parts: readonly SlotPart[], step: SlotStep): void {
  for (const group of groupByShape(parts)) updateGroup(rule, group, step);
}

/** Parts of one shape, in order, cut where they become too many numbers. */
function groupByShape(parts: readonly SlotPart[]): SlotPart[][] {
  const open = new Map<string, SlotPart[]>();
  const groups: SlotPart[][] = [];
  for (const part of parts) {
    const { shape } = part.slot;
    const key = shape.join();
    const size = shape.reduce((product, axis) => product * axis, 1);
    const group = open.get(key);
    if (group !== undefined && (group.length + 1) * size <= groupElements) {
      group.push(part);
      continue;
    }
    const fresh = [part];
    open.set(key, fresh);
    groups.push(fresh);
  }
  return groups;
}

function updateGroup(rule: UpdateRule, group: readonly SlotPart[], { gradientScale, step }: SlotStep): void {
  runOp(rule.name, () => {
    const held = group.map(({ slot }) => slot.holdState()?.slots ?? {});
    try {
      const inputs = group.map(({ id, slot, gradient, lr, weightDecay }, i): RulePart => {
        const value = slot.read();
        return {
          id,
          value,
          gradient: mul(gradient, gradientScale),
          state: stateOf(rule, held[i] ?? {}, value),
          lr,
          weightDecay,
        };
      });
      const results = rule.update(inputs, step);
      assertResults(rule, group, results);
      for (const [i, { slot }] of group.entries()) {
        const { value, state } = results[i] as RuleResult;
        slot.assign(value);
        slot.assignState({ rule: rule.name, step, slots: state });
      }
    } finally {
      disposeTree(held);
    }
  });
}

/** Every slot of the rule; zeros where nothing was kept. */
function stateOf(rule: UpdateRule, kept: RuleState, like: Tensor): RuleState {
  return Object.fromEntries(rule.slots.map((slot) => [slot, kept[slot] ?? zerosLike(like)]));
}

/** A rule of somebody else's may be wrong: nothing is changed then. */
function assertResults(rule: UpdateRule, group: readonly SlotPart[], results: readonly RuleResult[]): void {
  if (results.length !== group.length) {
    throw new MoebiusError({
      code: 'plugin',
      message: `optimizer rule "${rule.name}": must give a result for each of ${group.length} parameters, got ${results.length}`,
      details: { rule: rule.name, expected: group.length, got: results.length },
    });
  }
  for (const [i, { id, slot }] of group.entries()) {
    const { value, state } = results[i] as RuleResult;
    const pattern = slot.shape.join(' ');
    assertShape(value, pattern, {}, `value of ${id} from optimizer rule "${rule.name}"`);
    for (const name of rule.slots) {
      const kept = state[name];
      if (kept === undefined) {
        throw new MoebiusError({
          code: 'plugin',
          message: `optimizer rule "${rule.name}": must give its slot "${name}" for ${id}, got ${Object.keys(state).join(', ') || 'none'}`,
          details: { rule: rule.name, slot: name, id },
        });
      }
      assertShape(kept, pattern, {}, `slot "${name}" of ${id} from optimizer rule "${rule.name}"`);
    }
  }
}
