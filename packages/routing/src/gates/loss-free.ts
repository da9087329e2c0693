/**
 * @file Balance without a loss: a bias that steers the choice follows the load.
 *
 * ```
 * s = score(x Wᵀ)    I = top-k of s + b    w = s[I] / Σ s[I]
 * after a step: b_e += γ·sign(mean load - load_e), or γ·(mean load - load_e) / mean load
 * ```
 * DeepSeek-V3 (2412.19437) §2.1.2; Wang et al. 2024 (2408.15664). Masked tokens have no pairs, so padding moves no bias.
 */
import { parseConfig, z } from '@moebius/core';

import { defineRouter } from '../define-router.ts';
import type { RouterBuffers, RouterLoad } from '../define-router.ts';
import { parseGateConfig } from '../gate-config.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { topKRouter } from '../top-k-router.ts';

const updates = z.strictObject({
  rate: z.number().min(0).default(1e-3),
  update: z.enum(['sign', 'proportional']).default('sign'),
});

/** `loss-free`: `{ rate, update }` and any `GateConfig`; score `sigmoid` or `sqrt-softplus`, renormalised, unless it says otherwise. */
export function lossFreeRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'loss-free',
    create: ({ experts, topK }, { rate, update, ...gate }) => {
      const { rate: gamma, update: form } = parseConfig(updates, defined({ rate, update }), 'options');
      const score = gate['score'] ?? 'sigmoid';
      const usual = { experts, topK, score, renormalise: score !== 'identity' && score !== 'relu' };
      const router = topKRouter(parseGateConfig({ ...usual, ...gate, selectionBias: true }));
      return defineRouter({
        ...router,
        name: 'loss-free',
        advance: (buffers, seen) => ({ selectionBias: follow(buffers, seen, { gamma, form }) }),
      });
    },
  });
}

function follow(
  buffers: RouterBuffers,
  { load }: RouterLoad,
  { gamma, form }: { readonly gamma: number; readonly form: 'sign' | 'proportional' },
): Float32Array {
  const bias = Float32Array.from(buffers['selectionBias'] ?? new Float32Array(load.length));
  const mean = load.reduce((sum, pairs) => sum + pairs, 0) / load.length;
  if (mean === 0) return bias;
  return bias.map((value, e) => {
    const missing = mean - (load[e] ?? 0);
    return value + gamma * (form === 'sign' ? Math.sign(missing) : missing / mean);
  });
}

function defined(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
