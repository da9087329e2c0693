/**
 * @file Scores in, capped plan out: top-k and a capacity policy without a tensor.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k.
 */
import { configurationError } from '@moebius/core';
import type { Fault } from '@moebius/core';

import { assertCapacityScores } from './capacity-problem.ts';
import type { CapacityPolicy } from './define-capacity-policy.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { parseGateConfig } from '../gate-config.ts';
import type { GateConfig } from '../gate-config.ts';
import { planTopK } from '../plan-top-k.ts';
import { selectExperts } from '../select-experts.kernel.ts';
import type { TokenContext } from '../token-context.ts';

/** What {@link planCapacity} needs besides scores. */
export interface PlanCapacityOptions extends TokenContext {
  /** Number of experts `E`. */
  readonly experts: number;
  /** Experts of each token `K`. */
  readonly topK: number;
  /** What to do to the top-k plan. */
  readonly policy: CapacityPolicy;
}

/**
 * Routes every token to its k best experts, then applies a capacity policy. Integers and scores only.
 *
 * @param scores - Float32Array `[T, E]`, usually softmax probabilities. Only read
 * @param options - sizes, policy, and what is known about the tokens
 * @returns a fresh plan; caller owns
 * @throws `configuration` listing every fault of sizes and policy at once, `shape`, `numerics` naming layer and token
 * @example
 * ```ts
 * const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 1 }));
 * const scores = Float32Array.of(0.7, 0.3, 0.6, 0.4, 0.8, 0.2, 0.1, 0.9);
 * const plan = planCapacity(scores, { experts: 2, topK: 1, policy });
 * plan.stats.load; // 2 1: expert 0 had three tokens
 * ```
 */
export function planCapacity(scores: ArrayLike<number>, options: PlanCapacityOptions): DispatchPlan {
  const { experts, topK, policy, ...context } = options;
  const faults = sizeFaults(scores.length, options);
  if (faults.length > 0) throw configurationError('planCapacity', faults);
  const tokens = scores.length / experts;
  const mask = context.mask === undefined ? {} : { mask: context.mask };
  assertCapacityScores(scores, experts, context);
  const { ids } = selectExperts({ logits: scores, ...mask }, { ...byScore, experts, topK });
  const primary = planTopK(ids, { tokens, experts, topK, ...mask });
  return policy.plan({ scores, primary, ...context });
}

/** The gate that takes scores as they are. */
const byScore: GateConfig = parseGateConfig({ experts: 1, topK: 1, score: 'identity' });

function sizeFaults(length: number, options: PlanCapacityOptions): Fault[] {
  const { experts, topK, mask, policy } = options;
  const faults: Fault[] = [];
  const add = (path: string, expectation: string, got: number, remedy: string): void => {
    faults.push({ path, expectation, got: String(got), remedy });
  };
  const countable = Number.isInteger(experts) && experts >= 1;
  if (!countable) add('experts', 'must be an integer of at least 1', experts, 'count the experts');
  if (!Number.isInteger(topK) || topK < 1 || (countable && topK > experts)) {
    add('topK', `must be an integer in 1…experts ${experts}`, topK, 'lower topK or add experts');
  }
  if (!countable) return faults;
  if (length === 0) add('scores', 'must hold at least 1 token', 0, 'skip the layer for an empty batch');
  else if (length % experts !== 0) {
    add('scores', `must hold a multiple of experts ${experts} numbers`, length, 'pass [T, E] scores');
  } else if (mask !== undefined && mask.length !== length / experts) {
    add('mask', `must have an entry for each of ${length / experts} tokens`, mask.length, 'pass [T]');
  }
  return [...faults, ...policy.sizeFaults({ experts, topK })];
}
