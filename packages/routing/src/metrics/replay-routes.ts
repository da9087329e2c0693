/**
 * @file Routing by a trace: the plans are those recorded, the weights those of the live scores, so a gradient flows.
 *
 * What Megatron-LM calls router replay: the same choices in two runs (training and the rollout that made its data, or two engines)
 * take routing out of a comparison.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { MoebiusError } from '@moebius/core';

import { place } from '../capacity/capacity-problem.ts';
import type { CapacityProblem } from '../capacity/capacity-problem.ts';
import { defineCapacityPolicy } from '../capacity/define-capacity-policy.ts';
import type { CapacityPolicy, CapacityWeights } from '../capacity/define-capacity-policy.ts';
import { planKept } from '../capacity/plan-kept.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { pairExperts } from './plan-pairs.kernel.ts';
import type { RouteTrace } from './route-trace.ts';

/** Settings of {@link replayRoutes}. */
export interface ReplayOptions {
  /** Weights of the replayed pairs. Default `{ norm: 'kept' }`: live scores of the recorded experts over their sum. */
  readonly weights?: Partial<CapacityWeights>;
}

/**
 * A trace as a policy: put it behind any router with `withCapacity(router, replayRoutes(trace))`. Pass and layer are found by `step` and
 * `layer` of the call; the recorded plan replaces the router's.
 *
 * @param trace - steps of its passes must differ
 * @param options - how replayed pairs are weighed
 * @returns a policy named `replay`
 * @throws `configuration` when two passes have one step; when it is asked, `data` for a step or layer that was not recorded
 */
export function replayRoutes(trace: RouteTrace, options: ReplayOptions = {}): CapacityPolicy {
  const plans = indexPlans(trace);
  return defineCapacityPolicy({
    name: 'replay',
    weights: { norm: 'kept', ...options.weights },
    plan: (problem) => {
      const { step = 0, layer = 0 } = problem;
      const recorded = plans.get(`${step}.${layer}`);
      if (recorded === undefined) throw notRecorded(problem, { step, layer });
      assertSizes(recorded, problem);
      return planKept({ ids: pairExperts(recorded), tokenOffsets: recorded.tokenOffsets.slice() }, problem);
    },
  });
}

function indexPlans({ passes }: RouteTrace): ReadonlyMap<string, DispatchPlan> {
  const plans = new Map<string, DispatchPlan>();
  for (const { step, layers } of passes) {
    for (const { layer, plan } of layers) {
      const key = `${step}.${layer}`;
      if (plans.has(key)) throw repeated(step, layer);
      plans.set(key, plan);
    }
  }
  return plans;
}

function repeated(step: number, layer: number): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: `trace: steps must differ to be replayed, got step ${step} twice for layer ${layer} (record with a step for each pass)`,
    details: { step, layer },
  });
}

function notRecorded(
  problem: CapacityProblem,
  { step, layer }: { step: number; layer: number },
): MoebiusError {
  return new MoebiusError({
    code: 'data',
    message: `${place(problem)}replay: must have been recorded, got step ${step} of layer ${layer} (replay the steps and layers of the trace)`,
    details: { step, layer },
  });
}

function assertSizes(recorded: DispatchPlan, problem: CapacityProblem): void {
  const { tokens, experts } = problem.primary;
  if (recorded.tokens === tokens && recorded.experts === experts) return;
  throw new MoebiusError({
    code: 'data',
    message: `${place(problem)}replay: the recorded plan must be of ${tokens} tokens and ${experts} experts, got ${recorded.tokens} and ${recorded.experts} (replay the same batches)`,
    details: { tokens, experts, gotTokens: recorded.tokens, gotExperts: recorded.experts },
  });
}
