/**
 * @file What to tell whoever makes a decoder of routers that look ahead.
 */
import type { Router } from './define-router.ts';

/**
 * One line about the routers of a decoder that are not causal, or null when all are. A trainer reports it once, when a run starts
 * (`warnings` of its `start` event).
 *
 * @param routers - by layer; null for a dense one
 * @example
 * ```ts
 * const { causal, ...top2 } = topKRouter(parseGateConfig({ experts: 4, topK: 2 }));
 * causalityWarning([null, defineRouter({ ...top2, name: 'looks-ahead', causal: false })]);
 * // routers of layers 1 ("looks-ahead"): …
 * ```
 */
export function causalityWarning(routers: readonly (Router | null)[]): string | null {
  const layers = [...routers.keys()].filter((layer) => routers[layer]?.causal === false);
  if (layers.length === 0) return null;
  const names = [...new Set(layers.map((layer) => `"${routers[layer]?.name}"`))];
  return `routers of layers ${layers.join(', ')} (${names.join(', ')}): are not causal, so a token's route depends on tokens after it: losses are those of a model that has seen the future, and generation will not reach them (use them in encoders, or choose a causal router)`;
}
