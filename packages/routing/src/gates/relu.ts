/**
 * @file ReMoE: ReLU in the place of softmax and top-k; the router learns how many experts a token needs.
 *
 * ```
 * g = ReLU(x Wᵀ)    I = { e : g_e > 0 }    w = g[I]
 * after a step: λ ← λ·rate where sparsity < 1 - K/E, λ / rate where it is above          sparsity = 1 - pairs / (T·E)
 * ```
 * ReMoE (2412.14711). λ is the coefficient of an L1 loss on g: the buffer `lambda` `[1]` of each layer, which `sparsityLoss`
 * reads from `observation.buffers`. Here λ is a layer's own (one for all layers in the paper). A token may have no expert.
 */
import { z } from '@moebius/core';

import type { RouterBuffers, RouterLoad } from '../define-router.ts';
import { aboveRows } from './choose.kernel.ts';
import { defineGateFamily, topKOption } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { linearScorer } from './scorers.ts';
import { weighScores } from './weighs.ts';

/** `relu`: `{ topK, lambda, rate, scale }`; `topK` is the number of experts that λ steers to, on average. */
export function reluRouter(): RouterFactory {
  return defineGateFamily({
    name: 'relu',
    options: (place) =>
      z.strictObject({
        topK: topKOption(place),
        lambda: z.number().min(0).max(1e6).default(1e-8),
        rate: z.number().min(1).max(10).default(1.2),
        scale: z.number().default(1),
      }),
    stages: ({ experts }, { topK, lambda, rate, scale }) => ({
      topK,
      scorer: linearScorer({ columns: experts }),
      score: 'relu',
      choose: ({ logits, ...rows }) => aboveRows(logits, { ...rows, bound: 0, atLeastOne: false }),
      weigh: weighScores({ scale }),
      buffers: {
        shapes: { lambda: [1] },
        initialise: () => Float32Array.of(lambda),
        advance: (buffers, seen) => ({ lambda: steer(buffers, seen, { rate, share: topK / experts }) }),
      },
    }),
  });
}

/** Kept where float32 has digits, so that a long run at one side of the target can come back. */
const LEAST = 1e-30;
const MOST = 1e30;

function steer(
  buffers: RouterBuffers,
  { load, tokens = 0 }: RouterLoad,
  { rate, share }: { readonly rate: number; readonly share: number },
): Float32Array {
  const lambda = Float32Array.from(buffers['lambda'] ?? [0]);
  if (tokens === 0) return lambda;
  const active = load.reduce((sum, pairs) => sum + pairs, 0) / (tokens * load.length);
  if (active === share) return lambda;
  return lambda.map((value) => Math.min(MOST, Math.max(LEAST, active > share ? value * rate : value / rate)));
}
