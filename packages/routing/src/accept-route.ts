/**
 * @file An executor that learns to run one more kind of route.
 */
import type { Task } from '@moebius/core';
import type { Tensor2D } from '@moebius/tensor';

import { defineExecutor } from './expert-executor.ts';
import type { ExecutorGradients, ExecutorInput, ExecutorSaved, ExpertExecutor } from './expert-executor.ts';
import type { Route } from './route.ts';

/** How one kind of route is run. `S` is what backward needs. */
export interface RoutePasses<K extends Route['kind'], S> {
  /** Which. */
  readonly kind: K;
  /** float32 `[T, D]` and the state; the caller owns both. */
  forward(
    input: ExecutorInput,
    route: Extract<Route, { readonly kind: K }>,
  ): Task<{ readonly y: Tensor2D; readonly state: S }>;
  /** Of `dy` float32 `[T, D]`. Borrows both. */
  backward(state: S, dy: Tensor2D): Task<ExecutorGradients>;
}

/**
 * The executor with one more kind of route; all others go to it as they are.
 *
 * @param executor - runs the others
 * @param passes - the new kind
 * @returns an executor of the same name
 */
export function acceptRoute<K extends Route['kind'], S>(
  executor: ExpertExecutor,
  passes: RoutePasses<K, S>,
): ExpertExecutor {
  const { kind } = passes;
  const own = `${executor.name}/${kind}`;
  function* forward(
    input: ExecutorInput,
    route: Extract<Route, { readonly kind: K }>,
  ): Task<{ readonly y: Tensor2D; readonly saved: ExecutorSaved }> {
    const { y, state } = yield* passes.forward(input, route);
    return { y, saved: { executor: own, state } };
  }
  return defineExecutor({
    ...executor,
    accepts: [...new Set([...executor.accepts, kind])],
    forward: (input) => (isOf(input.route, kind) ? forward(input, input.route) : executor.forward(input)),
    backward: (saved, dy) =>
      saved.executor === own ? passes.backward(saved.state as S, dy) : executor.backward(saved, dy),
  });
}

function isOf<K extends Route['kind']>(route: Route, kind: K): route is Extract<Route, { readonly kind: K }> {
  return route.kind === kind;
}
