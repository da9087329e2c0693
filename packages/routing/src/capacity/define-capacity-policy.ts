/**
 * @file Capacity policies by value: one dispatch plan in, one out.
 *
 * The built-in ones come from `capacityPolicy`; a third party writes its own with `defineCapacityPolicy` and `planKept`, and proves it with
 * `describeCapacityPolicy` from `@moebius/routing/testing`.
 */
import { MoebiusError, definePlugin } from '@moebius/core';
import type { Fault, Plugin } from '@moebius/core';

import type { CapacitySizes, CapacityWeightNorm } from './capacity-config.ts';
import { assertCapacityProblem, assertCapacityScores, place } from './capacity-problem.ts';
import type { CapacityProblem } from './capacity-problem.ts';
import { assertNoFaults, missingFunctions } from '../definition-faults.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';

/** Weights of the pairs that stay. */
export interface CapacityWeights {
  /** Which formula. */
  readonly norm: CapacityWeightNorm;
  /** Multiplies the weights of every norm but `router`. */
  readonly scale: number;
  /** Added to divisors, so that scores that underflow give 0 and not NaN. */
  readonly epsilon: number;
}

/** Decides which pairs stay. Pure: no tensor, no clock, the same answer to the same question whatever came before. */
export interface CapacityPolicy extends Plugin {
  /** Extension point. */
  readonly kind: 'capacity-policy';
  /** Weights of the pairs that stay. */
  readonly weights: CapacityWeights;
  /** What later tokens hold moves no pair of an earlier one, where the number of pairs and the token classes are the same. */
  readonly causal: boolean;
  /** What is wrong with using it on a layer of these sizes; empty when nothing is. */
  sizeFaults(sizes: CapacitySizes): readonly Fault[];
  /**
   * The plan after the policy: fresh arrays, never written again; or `problem.primary` itself where the policy does not act.
   *
   * @throws `shape`, `numerics` naming layer and token, `plugin`
   */
  plan(problem: CapacityProblem): DispatchPlan;
}

/** What {@link defineCapacityPolicy} takes. */
export interface CapacityPolicyDefinition {
  /** Kebab-case. */
  readonly name: string;
  /** Default: the router's own weights. */
  readonly weights?: Partial<CapacityWeights>;
  /** Default false: most policies compare tokens with later ones. */
  readonly causal?: boolean;
  /** Default: it fits every layer. */
  sizeFaults?(sizes: CapacitySizes): readonly Fault[];
  /** Whether the policy acts on this call; default always. Where it does not, the plan stays as it is. */
  applies?(problem: CapacityProblem): boolean;
  /** Called with checked lengths and scores. Build the answer with `planKept`. */
  plan(problem: CapacityProblem): DispatchPlan;
}

/**
 * Checks and freezes a capacity policy. Every question is checked (lengths, empty batch, NaN scores) before `plan` sees it.
 *
 * @param definition - the policy; prove it with `describeCapacityPolicy`
 * @throws `plugin` naming every fault
 * @example
 * ```ts
 * const firstExpertOnly = defineCapacityPolicy({
 *   name: 'first-expert-only',
 *   plan: (problem) => {
 *     const { tokens, tokenOffsets, slot, source, experts } = problem.primary;
 *     const ids: number[] = [];
 *     const ends = new Int32Array(tokens + 1);
 *     for (let t = 0; t < tokens; t += 1) {
 *       const first = slot[tokenOffsets[t] ?? 0];
 *       if (tokenOffsets[t] !== tokenOffsets[t + 1] && first !== undefined) ids.push((source[first] ?? 0) % experts);
 *       ends[t + 1] = ids.length;
 *     }
 *     return planKept({ ids: Int32Array.from(ids), tokenOffsets: ends }, problem);
 *   },
 * });
 * ```
 */
export function defineCapacityPolicy(definition: CapacityPolicyDefinition): CapacityPolicy {
  const faults = missingFunctions(definition, ['plan']);
  for (const name of ['sizeFaults', 'applies'] as const) {
    if (definition[name] !== undefined) faults.push(...missingFunctions(definition, [name]));
  }
  assertNoFaults(`capacity policy "${String(definition.name)}"`, faults);
  const { norm = 'router', scale = 1, epsilon = 1e-20 } = definition.weights ?? {};
  return definePlugin({
    kind: 'capacity-policy',
    name: definition.name,
    weights: Object.freeze({ norm, scale, epsilon }),
    causal: definition.causal ?? false,
    sizeFaults: (sizes) => definition.sizeFaults?.(sizes) ?? [],
    plan: (problem) => {
      assertCapacityProblem(problem);
      if (definition.applies?.(problem) === false) return problem.primary;
      assertCapacityScores(problem.scores, problem.primary.experts, problem);
      const plan = definition.plan(problem);
      assertSameSizes(definition.name, plan, problem);
      return plan;
    },
  } satisfies CapacityPolicy);
}

function assertSameSizes(name: string, plan: DispatchPlan, problem: CapacityProblem): void {
  const { tokens, experts } = problem.primary;
  if (plan.tokens === tokens && plan.experts === experts) return;
  throw new MoebiusError({
    code: 'plugin',
    message: `${place(problem)}capacity policy "${name}": plan must be of ${tokens} tokens and ${experts} experts, got ${plan.tokens} and ${plan.experts} (build it with planKept)`,
    details: { name, tokens, experts, gotTokens: plan.tokens, gotExperts: plan.experts },
  });
}
