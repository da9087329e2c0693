/**
 * @file The capacity of a run as a policy: one factor while training, another in evaluation, as GShard and Switch have them.
 */
import type { Fault } from '@moebius/core';
import type { AroundRouter, ModelConfig } from '@moebius/model';
import { capRouters } from '@moebius/model';
import { capacityPolicy, defineCapacityPolicy } from '@moebius/routing';
import type { CapacityPolicy } from '@moebius/routing';

import { nameCapacity } from '../evaluation/capacity-grid.ts';
import type { TrainConfig } from './train-config.ts';

/** A cap on the load of every expert, at so many times the mean load. What is over it is dropped, and not trained on. */
export interface RunCapacityConfig {
  /** Capacity factor of training steps; Switch took 1.25. null (default) drops nothing. */
  readonly train: number | null;
  /** Capacity factor of evaluations; Switch took 2. null (default) drops nothing. The saved model knows neither. */
  readonly evaluate: number | null;
  /** What to do with pairs over the cap: drop them (`token`, default), offer other experts first (`expanded`, `top-m`), cap each device (`device`), or choose again (`reroute`). */
  readonly method: 'token' | 'expanded' | 'top-m' | 'device' | 'reroute';
  /** Which pairs stay: the highest score (default), the earliest tokens (`order`, as GShard and Switch do), the latest, or any. */
  readonly key: 'score' | 'order' | 'reverse' | 'random';
  /** Whose tokens share a cap: the batch (default), the shard of a device, or a sequence. */
  readonly scope: 'global' | 'rank' | 'sequence';
  /** Devices that share experts and tokens in equal runs; it divides the number of experts. Default 1. */
  readonly devices: number;
  /** Weights of the pairs that stay: the router's own (default), raw scores, or scores over the sum of the chosen or of the kept ones. */
  readonly weights: 'router' | 'none' | 'primary' | 'kept';
}

/**
 * What a run puts around its routers.
 *
 * @param capacity - of the run
 * @param model - sizes of its layers
 * @returns undefined when nothing is capped
 */
export function capRun(capacity: RunCapacityConfig, model: ModelConfig): AroundRouter | undefined {
  const { train, evaluate } = capacity;
  if ((train === null && evaluate === null) || model.num_experts === 0) return undefined;
  return capRouters(phasePolicy(policyAt(train, capacity, model), policyAt(evaluate, capacity, model)));
}

function policyAt(
  gamma: number | null,
  { method, key, scope, devices, weights }: RunCapacityConfig,
  { num_experts: experts, num_experts_per_tok: topK }: ModelConfig,
): CapacityPolicy | null {
  if (gamma === null) return null;
  return capacityPolicy(nameCapacity(method, { gamma, key, scope, devices, weights, experts, topK }));
}

/** Generation, which no run does while it trains, counts as evaluation. */
function phasePolicy(train: CapacityPolicy | null, evaluate: CapacityPolicy | null): CapacityPolicy {
  const either = (train ?? evaluate) as CapacityPolicy;
  const policyOf = (phase: string | undefined): CapacityPolicy | null =>
    phase === 'train' ? train : evaluate;
  return defineCapacityPolicy({
    name: either.name,
    weights: either.weights,
    causal: [train, evaluate].every((policy) => policy === null || policy.causal),
    sizeFaults: (sizes) => either.sizeFaults(sizes),
    applies: ({ phase }) => policyOf(phase) !== null,
    plan: (problem) => policyOf(problem.phase)?.plan(problem) ?? problem.primary,
  });
}

/** What a schema cannot say: devices share the experts of the model in equal runs. */
export function capacityFaults({ capacity, model }: Pick<TrainConfig, 'capacity' | 'model'>): Fault[] {
  const { devices } = capacity;
  const experts = typeof model === 'string' ? undefined : model['num_experts'];
  if (typeof experts !== 'number' || !(experts > 0) || experts % devices === 0) return [];
  const expectation = `must divide model.num_experts ${experts}`;
  const remedy = 'devices share experts in equal runs';
  return [{ path: 'capacity.devices', expectation, got: String(devices), remedy }];
}
