/**
 * @file A router made of a router: the inner one chooses, a capacity policy decides which pairs stay.
 *
 * ```
 * x_TD ─► inner ─► primary plan, weights, scores_TE ─one read─► policy ─► plan ─► weights_N of what stays
 * ```
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `N` pairs.
 */
import { MoebiusError, configurationError } from '@moebius/core';
import { add, readHostSync, runOp } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { place } from './capacity-problem.ts';
import type { CapacityPolicy } from './define-capacity-policy.ts';
import { firstNegativeToken } from './scores.kernel.ts';
import { weighKeptBackward, weighKeptForward } from './weigh-kept.ts';
import type { WeighKeptSaved } from './weigh-kept.ts';
import { defineRouter } from '../define-router.ts';
import type { Router, RouterOptions, RouterOutput, RouterUpstream } from '../define-router.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import type { PairsRoute } from '../route.ts';

/** What the wrapped router keeps for backward. */
interface CappedSaved {
  /** Of the inner router. */
  readonly inner: unknown;
  /** Of the weights; null when the policy did not act. */
  readonly weigh: WeighKeptSaved | null;
}

/**
 * Puts a capacity policy behind a router. Parameters, buffers, logits and scores are those of the router; the scores are read to the
 * host once more a layer. Where the policy does not act, the route is the router's own.
 *
 * The result is causal when both are: by `score` a token's fate depends on later tokens.
 *
 * `output.primary` is the plan before the policy: balance losses count that one, because capped loads no longer say what the router wants.
 *
 * @param router - any router of `pairs` routes
 * @param policy - from `capacityPolicy` or `defineCapacityPolicy`
 * @returns a router named `<router>-with-<policy>`
 * @throws `configuration` listing every fault of the policy for this many experts
 * @example
 * ```ts
 * const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 1.25 }));
 * const router = withCapacity(topKRouter(parseGateConfig({ experts: 8, topK: 2 })), policy);
 * ```
 */
export function withCapacity(router: Router, policy: CapacityPolicy): Router {
  const faults = policy.sizeFaults({ experts: router.experts });
  if (faults.length > 0) throw configurationError(`capacity policy "${policy.name}"`, faults);
  // Shortcuts of the inner router (a fused form, a route without backward) know nothing of the policy.
  const { gate: _gate, infer: _infer, ...rest } = router;
  return defineRouter({
    ...rest,
    name: `${router.name}-with-${policy.name}`,
    causal: router.causal && policy.causal,
    forward: (x, parameters, options) =>
      runOp('capacity', () => cap(router.forward(x, parameters, options), { router, policy, options })),
    backward: (saved, upstream) => backward(router, saved as CappedSaved, upstream),
  });
}

interface CapWork {
  readonly router: Router;
  readonly policy: CapacityPolicy;
  readonly options: RouterOptions;
}

function cap(inner: RouterOutput, work: CapWork): RouterOutput {
  const { policy, options } = work;
  const route = pairsOf(inner, work);
  const primary = route.plan;
  const { buffers: _buffers, ...context } = options;
  const scores = readHostSync(inner.scores);
  const plan = policy.plan({ ...context, scores, primary });
  if (plan === primary) return { ...inner, saved: { inner: inner.saved, weigh: null } satisfies CappedSaved };
  assertPositive(scores, { plan, primary }, work);
  const weighing = { weights: policy.weights, plan, primary };
  const { value, saved: weigh } = weighKeptForward(route.weights, inner.scores, weighing);
  return {
    ...inner,
    route: { kind: 'pairs', plan, weights: value },
    primary,
    saved: { inner: inner.saved, weigh } satisfies CappedSaved,
  };
}

function backward(
  router: Router,
  saved: CappedSaved,
  upstream: RouterUpstream,
): ReturnType<Router['backward']> {
  const { weigh, inner } = saved;
  if (weigh === null) return router.backward(inner, upstream);
  return runOp('capacity.backward', () => {
    const { route, dscores, ...rest } = upstream;
    if (route === undefined) return router.backward(inner, upstream);
    if (route.kind !== 'pairs') throw notPairs(router, route.kind, 'gradients');
    const down = weighKeptBackward(weigh, route.weights);
    const total_TE =
      dscores === undefined || down.dscores === undefined
        ? (dscores ?? down.dscores)
        : add<Tensor2D>(dscores, down.dscores);
    return router.backward(inner, {
      ...rest,
      ...(total_TE === undefined ? {} : { dscores: total_TE }),
      ...(down.dweights === undefined ? {} : { route: { kind: 'pairs' as const, weights: down.dweights } }),
    });
  });
}

function pairsOf(output: RouterOutput, { router, options }: CapWork): PairsRoute {
  if (output.route.kind === 'pairs') return output.route;
  throw notPairs(router, output.route.kind, `${place(options)}route`);
}

function notPairs(router: Router, kind: string, subject: string): MoebiusError {
  return new MoebiusError({
    code: 'plugin',
    message: `capacity of router "${router.name}": ${subject} must be of kind pairs, got ${kind} (only pairs can be dropped)`,
    details: { router: router.name, kind },
  });
}

/** Shares of a negative sum have no meaning: identity scores can have one. */
function assertPositive(
  scores: ArrayLike<number>,
  plans: { readonly plan: DispatchPlan; readonly primary: DispatchPlan },
  { policy, options }: CapWork,
): void {
  const { norm } = policy.weights;
  if (norm === 'none' || (norm === 'router' && plans.plan.primary === undefined)) return;
  const token = firstNegativeToken(scores, norm === 'kept' ? plans.plan : plans.primary);
  if (token < 0) return;
  throw new MoebiusError({
    code: 'numerics',
    message: `${place(options)}capacity weights "${norm}": scores of token ${token}'s experts must sum to at least 0, got less (use weights "none", or a score that is not negative)`,
    details: { layer: options.layer ?? -1, token, norm },
  });
}
