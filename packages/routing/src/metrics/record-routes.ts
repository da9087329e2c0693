/**
 * @file Recording what a router does, behind the router itself: what it sends to the executor, after any capacity policy.
 */
import { MoebiusError } from '@moebius/core';
import { readHostSync } from '@moebius/tensor';

import { defineRouter } from '../define-router.ts';
import type { Router, RouterOptions } from '../define-router.ts';
import type { Route } from '../route.ts';
import type { RouteRecorder } from './route-trace.ts';

/**
 * The same router, watched: each route of kind `pairs` that it gives is recorded, in training, evaluation and generation. Costs one
 * read of the weights `[N]` a layer and, in generation, the fused form of the built-in gate.
 *
 * @param router - any router of `pairs` routes
 * @param recorder - filled; a model's routers share one
 * @returns a router of the same name, parameters and buffers
 * @throws `configuration` when the router gives routes of another kind
 * @example
 * ```ts
 * import { parseGateConfig, topKRouter } from '@moebius/routing';
 *
 * const recorder = createRouteRecorder();
 * const router = recordRoutes(topKRouter(parseGateConfig({ experts: 8, topK: 2 })), recorder);
 * ```
 */
export function recordRoutes(router: Router, recorder: RouteRecorder): Router {
  if (router.route !== 'pairs') {
    throw new MoebiusError({
      code: 'configuration',
      message: `recordRoutes: router "${router.name}" must give routes of kind pairs, got ${router.route} (slots and merges have no plan)`,
      details: { router: router.name, route: router.route },
    });
  }
  // A fused form of the gate would run without passing here.
  const { gate: _gate, infer, ...rest } = router;
  return defineRouter({
    ...rest,
    forward(x, parameters, options) {
      const output = router.forward(x, parameters, options);
      recordRoute(output.route, options, recorder);
      return output;
    },
    ...(infer === undefined
      ? {}
      : {
          infer(x, parameters, options) {
            const route = infer.call(router, x, parameters, options);
            recordRoute(route, options, recorder);
            return route;
          },
        }),
  });
}

function recordRoute(route: Route, options: RouterOptions, recorder: RouteRecorder): void {
  if (route.kind !== 'pairs') return;
  const { layer = 0, step, phase, sequences, ids } = options;
  recorder.record({
    layer,
    plan: route.plan,
    weights: readHostSync(route.weights) as Float32Array,
    ...(step === undefined ? {} : { step }),
    ...(phase === undefined ? {} : { phase }),
    ...(sequences === undefined ? {} : { sequences }),
    ...(ids === undefined ? {} : { ids }),
  });
}
