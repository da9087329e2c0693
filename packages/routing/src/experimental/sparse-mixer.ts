/**
 * @file SparseMixer: experts are sampled, and the gradient of sampling is estimated instead of ignored (Liu et al. 2023, arXiv
 * 2310.00811, §3; GRIN, arXiv 2409.12136; Phi-3.5-MoE's router).
 *
 * ```
 * survivors: (max z − z_e) / max(|z_e|, max z) ≤ 2ε        π = softmax of the survivors
 * training:  D ~ π,  weight = c·π_D      c = 1 for the best survivor, else ½ (mid-point), or ⅓ / 1 with chances ¾ / ¼ (heun)
 * otherwise: D = argmax,  weight = π_D
 * pick 2 does the same without the expert of pick 1
 * ```
 * **What the gradient is.** Backward gives `∂L/∂z = (∂L/∂weight) · ∂π_D/∂z`, without the factor c: not the derivative of this forward
 * pass. Its mean over draws is `Σ_e π_e L′_e(c π_e) ∂π_e/∂z`, where `L_e(m)` is the loss when e was drawn with multiplier m. That is a
 * quadrature of `Σ_e [L_e(π_e) − L_e(0)] ∂π_e/∂z`, the gradient of the expected loss through the draw: exact per expert when L_e is linear
 * (c = 1, the best), quadratic (mid-point), cubic (heun). `L_e(0)` is the same for all e, so it adds nothing. With `plain` c is 1 and
 * the gradient is that of the forward pass, as if D had not been drawn.
 *
 * **Not settled:** whether the best expert should be treated to first order (it makes training agree with inference), and k above 2.
 *
 * Letters: `T` tokens · `D` model width · `E` experts · `K` picks · `N` pairs.
 */
import { parseConfig, z } from '@moebius/core';
import {
  add,
  assertShape,
  gatherScoresBackward,
  gatherScoresForward,
  linearBackward,
  linearForward,
  mul,
  readHostSync,
  runOp,
  softmax,
  sub,
  sum,
  tensor2d,
  zerosLike,
} from '@moebius/tensor';
import type { GatherScoresSaved, LinearSaved, Tensor1D, Tensor2D } from '@moebius/tensor';

import { badLogits } from '../bad-logits.ts';
import { defineRouter } from '../define-router.ts';
import type {
  Router,
  RouterGradients,
  RouterOptions,
  RouterOutput,
  RouterUpstream,
} from '../define-router.ts';
import { firstBadRow } from '../gates/choose.kernel.ts';
import { planTopK } from '../plan-top-k.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { sampleSparseMixer } from './sparse-mixer.kernel.ts';
import type { SparseMixerSample } from './sparse-mixer.kernel.ts';

/** Settings of {@link sparseMixerRouter}. */
export interface SparseMixerOptions {
  /** `E`. */
  readonly experts: number;
  /** Picks `K`. Default 2, as in Phi-3.5-MoE. */
  readonly topK?: number;
  /** ε: half the relative width of the band of survivors. Default 0.01. */
  readonly jitter?: number;
  /** Order of the estimate. Default `heun`, as published code has it. */
  readonly estimator?: 'mid-point' | 'heun' | 'plain';
}

const schema = z
  .strictObject({
    experts: z.int().min(1),
    topK: z.int().min(1).default(2),
    jitter: z.number().positive().default(0.01),
    estimator: z.enum(['mid-point', 'heun', 'plain']).default('heun'),
  })
  .refine(({ experts, topK }) => topK <= experts, { path: ['topK'], message: 'must be at most experts' });

interface MixerSaved {
  readonly linear: LinearSaved;
  /** float32 `[T, E]`: softmax over all experts. */
  readonly scores: Tensor2D;
  readonly gathered: GatherScoresSaved;
  /** One a pick. */
  readonly picks: readonly PickSaved[];
}

interface PickSaved {
  /** float32 `[T, E]`: softmax over the survivors. */
  readonly probabilities: Tensor2D;
  /** float32 `[T, E]`: 1 at the pick. */
  readonly chosen: Tensor2D;
}

/**
 * A router named `sparse-mixer`. Tensor `weight` `[E, D]`. Scores are a softmax over all experts, for balance losses.
 *
 * @param options - experts, picks, band, estimator
 * @throws `configuration` naming every fault; forward: `numerics` on a logit that is not finite
 */
export function sparseMixerRouter(options: SparseMixerOptions): Router {
  const settings = parseConfig(schema, options, 'sparse-mixer');
  const { experts, topK } = settings;
  return defineRouter({
    name: 'sparse-mixer',
    experts,
    topK,
    parameterShapes: (modelWidth) => ({ weight: [experts, modelWidth] }),
    bufferShapes: () => ({}),
    forward: (x, { weight }, given) =>
      runOp('sparse-mixer', () => forward(settings, { x, weight: weight as Tensor2D }, given)),
    backward: (saved, upstream) =>
      runOp('sparse-mixer.backward', () => backward(saved as MixerSaved, upstream)),
  });
}

/** The router by name: `{ "name": "sparse-mixer", "options": { "estimator": "heun" } }`. */
export const sparseMixer: RouterFactory = defineRouterFactory({
  name: 'sparse-mixer',
  create: ({ experts, topK }, options) => sparseMixerRouter({ experts, topK, ...options }),
});

function forward(
  settings: Required<SparseMixerOptions>,
  { x, weight }: { readonly x: Tensor2D; readonly weight: Tensor2D },
  { mask, layer, rng }: RouterOptions,
): RouterOutput {
  const { experts, topK } = settings;
  const [tokens] = x.shape;
  assertShape(weight, 'E D', { E: experts, D: x.shape[1] }, 'router "sparse-mixer" weight');
  const { value: logits, saved: linear } = linearForward(x, weight);
  const host = readHostSync(logits);
  const masked = mask === undefined ? {} : { mask };
  const bad = firstBadRow(host, { tokens, width: experts, ...masked });
  if (bad >= 0) throw badLogits(host, bad, { experts, layer });
  const sampled = sampleSparseMixer({
    ...settings,
    logits: host,
    tokens,
    ...(rng === undefined ? {} : { rng: rng.fork('sparse-mixer') }),
  });
  const plan = planTopK(sampled.ids, { tokens, experts, topK, ...masked });
  const scores = softmax(logits);
  const picks = sampled.masks.map((_, pick) => pickOf(logits, sampled, { pick, topK }));
  let weights_TE: Tensor2D = zerosLike(logits);
  for (const { probabilities, factors } of picks) weights_TE = add(weights_TE, mul(probabilities, factors));
  const { value: weights, saved: gathered } = gatherScoresForward(weights_TE, plan);
  const saved: MixerSaved = {
    linear,
    scores: add(scores, 0),
    gathered,
    picks: picks.map(({ probabilities, chosen }) => ({ probabilities, chosen })),
  };
  return { route: { kind: 'pairs', plan, weights: weights as Tensor1D }, logits, scores, saved };
}

function pickOf(
  logits: Tensor2D,
  { ids, factors, masks }: SparseMixerSample,
  { pick, topK }: { readonly pick: number; readonly topK: number },
): PickSaved & { readonly factors: Tensor2D } {
  const [tokens, experts] = logits.shape;
  const chosen = new Float32Array(tokens * experts);
  const scaled = new Float32Array(tokens * experts);
  for (let t = 0; t < tokens; t += 1) {
    const at = t * experts + (ids[t * topK + pick] ?? 0);
    chosen[at] = 1;
    scaled[at] = factors[t * topK + pick] ?? 1;
  }
  const shape: [number, number] = [tokens, experts];
  return {
    probabilities: softmax(add<Tensor2D>(logits, tensor2d(masks[pick] ?? [], shape))),
    chosen: tensor2d(chosen, shape),
    factors: tensor2d(scaled, shape),
  };
}

function backward(
  { linear, scores, gathered, picks }: MixerSaved,
  { route, dlogits, dscores }: RouterUpstream,
): RouterGradients {
  let dz_TE: Tensor2D = dlogits === undefined ? zerosLike(scores) : add(dlogits, 0);
  if (dscores !== undefined) dz_TE = add(dz_TE, throughSoftmax(scores, dscores));
  if (route?.kind === 'pairs') {
    const { dscores: dweights_TE } = gatherScoresBackward(gathered, route.weights);
    for (const { probabilities, chosen } of picks)
      dz_TE = add(dz_TE, throughSoftmax(probabilities, mul(dweights_TE, chosen)));
  }
  const { dx, dweight } = linearBackward(linear, dz_TE);
  return { dx, parameters: { weight: dweight } };
}

/** `p ⊙ (g − Σ g p)`. */
function throughSoftmax(probabilities: Tensor2D, gradient: Tensor2D): Tensor2D {
  const product = mul<Tensor2D>(probabilities, gradient);
  return sub(product, mul(probabilities, sum(product, 1, true)));
}
