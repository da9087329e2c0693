/**
 * @file The gate pipeline of `gate-config.ts` by name, group-limited selection included (DeepSeek-V2 and V3).
 */
import { parseGateConfig } from '../gate-config.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { topKRouter } from '../top-k-router.ts';

/**
 * `top-k`: any `GateConfig`; `experts` and `topK` may be left out, they are the layer's. A model may run a fused form of it.
 */
export function topKFactory(): RouterFactory {
  return defineRouterFactory({
    name: 'top-k',
    create: ({ experts, topK }, options) => topKRouter(parseGateConfig({ experts, topK, ...options })),
  });
}
