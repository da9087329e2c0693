/**
 * @file The gate as an operation pair: hidden rows → logits → scores → chosen experts → weights, and back.
 *
 * ```
 * x_TD ─linear─► logits_TE ─score─► scores_TE ─┐
 *                    │                          ├─ keep chosen, renormalise ─► w_TE ─source─► weights_N
 *                    └─ read once ─► host: top-k ─► plan (integers)
 * ```
 * The logits are read to the host once a layer: selection, the NaN check and the plan happen there. The weights are computed
 * on the device from the same logits, so that their gradient never passes through the plan.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `K` top-k, `N` routed pairs.
 */
import { MoebiusError } from '@moebius/core';
import {
  add,
  assertCount,
  assertShape,
  cloneTensor,
  div,
  gatherScoresBackward,
  gatherScoresForward,
  linearBackward,
  linearForward,
  mul,
  readHostSync,
  runOp,
  scalar,
  sigmoid,
  softmax,
  sub,
  sum,
  tensor1d,
  tensor2d,
  where,
} from '@moebius/tensor';
import type { LinearSaved, Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

import type { DispatchPlan } from './dispatch-plan.ts';
import { parseGateConfig } from './gate-config.ts';
import type { GateConfig } from './gate-config.ts';
import { planTopK } from './plan-top-k.ts';
import type { PairsRoute } from './route.ts';
import { chosenExperts, selectExperts, weighSelection } from './select-experts.kernel.ts';

/** Tensors of a gate. */
export interface GateParameters {
  /** float32 `[E, D]`. */
  readonly weight: Tensor2D;
  /** float32 `[E]`, added to the logits; present exactly when `config.logitBias`. */
  readonly bias?: Tensor1D;
  /**
   * Float32Array `[E]`, added to the scores for selection only; present exactly when `config.selectionBias`. On the host: it is
   * moved by load, not by a gradient.
   */
  readonly selectionBias?: Float32Array;
}

/** How to run a gate. */
export interface GateOptions {
  /** A parsed gate. */
  readonly config: GateConfig;
  /** Layer index, for messages. */
  readonly layer?: number;
  /** Uint8Array `[T]`, 0 leaves a token unrouted (padding). */
  readonly mask?: Uint8Array;
}

/** What {@link gateBackward} needs; free it with `disposeTree`. */
export interface GateSaved {
  /** The gate. */
  readonly config: GateConfig;
  /** The plan. */
  readonly plan: DispatchPlan;
  /** Of the logits. */
  readonly linear: LinearSaved;
  /** float32 `[T, E]`. */
  readonly scores: Tensor2D;
  /** bool `[T, E]`, chosen experts; null when the weights are plain scores. */
  readonly chosen: Tensor2D | null;
  /** float32 `[T, E]`, scores over the chosen experts before renormalisation; null when the weights are plain scores. */
  readonly kept: Tensor2D | null;
  /** float32 `[T, 1]`, divisor of renormalisation; null without. */
  readonly divisor: Tensor2D | null;
}

/** What a gate decided. Caller owns every tensor, `saved` included. */
export interface GateOutput {
  /** Plan, and weights `[N]`. */
  readonly route: PairsRoute;
  /** float32 `[T, E]`. */
  readonly logits: Tensor2D;
  /** float32 `[T, E]`, `config.score` of the logits over all experts; for the losses. */
  readonly scores: Tensor2D;
  /** For {@link gateBackward}. */
  readonly saved: GateSaved;
}

/** Gradients that reach a gate. Absent means zero. Borrowed. */
export interface GateUpstream {
  /** float32 `[N]`, of the route's weights, from the executor. */
  readonly dweights?: Tensor1D;
  /** float32 `[T, E]`, of the logits, from a z-loss. */
  readonly dlogits?: Tensor2D;
  /** float32 `[T, E]`, of the scores, from a balance loss. */
  readonly dscores?: Tensor2D;
}

/** Gradients of a gate. Caller owns them. The selection bias has none. */
export interface GateGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** float32 `[E, D]`. */
  readonly dweight: Tensor2D;
  /** float32 `[E]`, when the gate has a logit bias. */
  readonly dbias?: Tensor1D;
}

/**
 * Routes tokens. One device-to-host read (the logits).
 *
 * @param x - float32 `[T, D]`, borrowed
 * @param parameters - `weight` `[E, D]`, and the biases that the configuration asks for; borrowed
 * @param options - gate, layer, mask
 * @returns route, logits, scores and saved; caller owns all
 * @throws `shape` on sizes, `configuration` on a missing or unexpected bias, `numerics` on a NaN or infinite logit, naming layer
 * and token
 */
export function gateForward(x: Tensor2D, parameters: GateParameters, options: GateOptions): GateOutput {
  const { config } = options;
  assertGate(x, parameters, options);
  return runOp('gate', () => {
    const { value: logits_TE, saved: linear } = linearForward(x, parameters.weight, parameters.bias);
    const { plan } = planFromLogits(logits_TE, parameters, options);
    const scores_TE = scoreAll(logits_TE, config);
    const { weights_TE, chosen, kept, divisor } = weighChosen(logits_TE, scores_TE, plan, config);
    const { value: picked_N } = gatherScoresForward(weights_TE, plan);
    const weights_N = config.scale === 1 ? picked_N : mul<Tensor1D>(picked_N, config.scale);
    return {
      route: { kind: 'pairs' as const, plan, weights: weights_N },
      logits: logits_TE,
      scores: scores_TE,
      saved: { config, plan, linear, scores: cloneTensor(scores_TE), chosen, kept, divisor },
    };
  });
}

/** Up to this many scores `T·E` the host computes weights faster than a dozen small operations on the device do. */
const HOST_SCORES = 8192;

/**
 * Routes tokens without anything for a backward pass. For few tokens, scores and weights are computed on the host from the logits
 * that are read anyway, so decoding one token costs one matrix product and one upload; for many, on the device as in
 * {@link gateForward}. The plan is that of {@link gateForward}; weights agree to float32 rounding.
 *
 * @param x - float32 `[T, D]`, borrowed
 * @param parameters - as for {@link gateForward}
 * @param options - as for {@link gateForward}
 * @returns the route; caller owns its weights `[N]`
 * @throws as {@link gateForward}
 */
export function gateInference(x: Tensor2D, parameters: GateParameters, options: GateOptions): PairsRoute {
  if (x.shape[0] * options.config.experts > HOST_SCORES) {
    return runOp('gate.inference', () => gateForward(x, parameters, options).route);
  }
  assertGate(x, parameters, options);
  return runOp('gate.inference', () => {
    const { value: logits_TE } = linearForward(x, parameters.weight, parameters.bias);
    const { plan, ids, logits } = planFromLogits(logits_TE, parameters, options);
    const weights = weighSelection(logits, ids, plan, options.config);
    return { kind: 'pairs' as const, plan, weights: tensor1d(weights, 'float32') };
  });
}

/**
 * Gradients of {@link gateForward}.
 *
 * @param saved - borrowed
 * @param upstream - any of `dweights` `[N]`, `dlogits` `[T, E]`, `dscores` `[T, E]`; borrowed
 * @returns fresh gradients; caller owns
 * @throws `shape`
 */
export function gateBackward(saved: GateSaved, upstream: GateUpstream): GateGradients {
  const { config, plan } = saved;
  const sizes = { T: plan.tokens, E: plan.experts, N: plan.token.length };
  if (upstream.dweights !== undefined) assertShape(upstream.dweights, 'N', sizes, 'gate dweights');
  if (upstream.dlogits !== undefined) assertShape(upstream.dlogits, 'T E', sizes, 'gate dlogits');
  if (upstream.dscores !== undefined) assertShape(upstream.dscores, 'T E', sizes, 'gate dscores');
  return runOp('gate.backward', () => {
    const viaWeights = upstream.dweights === undefined ? null : weightGradient(saved, upstream.dweights);
    const dscores_TE = sumOf(upstream.dscores, viaWeights?.dscores);
    const viaScores_TE = dscores_TE === null ? null : scoreGradient(saved.scores, dscores_TE, config);
    const dlogits_TE = sumOf(upstream.dlogits, viaScores_TE, viaWeights?.dlogits);
    if (dlogits_TE === null) {
      throw new MoebiusError({
        code: 'shape',
        message:
          'gateBackward: must get at least one of dweights, dlogits, dscores, got none (skip the call instead)',
      });
    }
    return linearBackward(saved.linear, dlogits_TE);
  });
}

/**
 * The plan of the `topK` largest scores of every token: what a router of one's own needs between its scores and its route.
 * One device-to-host read; ties go to the lowest index.
 *
 * @param scores - float32 `[T, E]`, borrowed
 * @param options - experts of a token, mask `[T]` of tokens to route, layer for messages
 * @returns a fresh plan
 * @throws `numerics` on NaN or infinity, naming layer, token and expert
 * @example
 * ```ts
 * import { tensor2d } from '@moebius/tensor';
 *
 * const plan = planScores(tensor2d([[0.1, 0.7, 0.2]]), { topK: 2 });
 * plan.source; // 1 2
 * ```
 */
export function planScores(scores: Tensor2D, options: PlanScoresOptions): DispatchPlan {
  const { topK, ...rest } = options;
  const config = parseGateConfig({ experts: scores.shape[1], topK, score: 'identity' });
  return planFromLogits(scores, {}, { config, ...rest }).plan;
}

/** How {@link planScores} chooses. */
export interface PlanScoresOptions {
  /** Experts of each token `K`. */
  readonly topK: number;
  /** Layer index, for messages. */
  readonly layer?: number;
  /** Uint8Array `[T]`, 0 leaves a token unrouted. */
  readonly mask?: Uint8Array;
}

interface HostPlan {
  readonly plan: DispatchPlan;
  readonly ids: Int32Array;
  readonly logits: ArrayLike<number>;
}

/** The one read: logits to the host, checked, selected, planned. */
function planFromLogits(
  logits_TE: Tensor2D,
  parameters: Pick<GateParameters, 'selectionBias'>,
  options: GateOptions,
): HostPlan {
  const { config, mask } = options;
  const [tokens, experts] = logits_TE.shape;
  const logits = readHostSync(logits_TE);
  const { ids, badToken } = selectExperts(
    {
      logits,
      ...(parameters.selectionBias === undefined ? {} : { selectionBias: parameters.selectionBias }),
      ...(mask === undefined ? {} : { mask }),
    },
    config,
  );
  if (badToken >= 0) throw badLogits(logits, badToken, options);
  const plan = planTopK(ids, { tokens, experts, topK: config.topK, ...(mask === undefined ? {} : { mask }) });
  return { plan, ids, logits };
}

function badLogits(logits: ArrayLike<number>, token: number, options: GateOptions): MoebiusError {
  const { experts } = options.config;
  const row = Array.from({ length: experts }, (_, e) => logits[token * experts + e] ?? NaN);
  const found = row.findIndex((value) => Number.isNaN(value) || value === Infinity);
  const expert = found < 0 ? 0 : found;
  const got = found < 0 ? '-Infinity for every expert' : `${row[expert]} for expert ${expert}`;
  const layer = options.layer ?? -1;
  const subject =
    layer < 0 ? `gate logits of token ${token}` : `layers[${layer}] gate logits of token ${token}`;
  return new MoebiusError({
    code: 'numerics',
    message: `${subject}: must be finite, got ${got} (check the hidden state and the learning rate)`,
    details: { layer, token, expert, got },
  });
}

function assertGate(x: Tensor2D, parameters: GateParameters, options: GateOptions): void {
  const { config, mask } = options;
  const sizes = { E: config.experts };
  assertShape(parameters.weight, 'E D', sizes, 'gate weight');
  assertShape(x, 'T D', sizes, 'gate x');
  if (x.shape[0] === 0) {
    throw new MoebiusError({
      code: 'shape',
      message: 'gate x: must have at least 1 token, got 0 (skip the layer for an empty batch)',
      details: { tokens: 0 },
    });
  }
  if (parameters.bias !== undefined) assertShape(parameters.bias, 'E', sizes, 'gate bias');
  assertPresence('bias', parameters.bias !== undefined, config.logitBias, 'logitBias');
  assertPresence(
    'selectionBias',
    parameters.selectionBias !== undefined,
    config.selectionBias,
    'selectionBias',
  );
  assertCount(
    parameters.selectionBias?.length ?? config.experts,
    config.experts,
    'gate selectionBias length',
  );
  assertCount(mask?.length ?? x.shape[0], x.shape[0], 'gate mask length');
}

function assertPresence(part: string, present: boolean, expected: boolean, key: string): void {
  if (present === expected) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `gate ${part}: must be ${expected ? 'given' : 'absent'} when config.${key} is ${expected}, got ${
      present ? 'one' : 'none'
    } (change the configuration or the parameters)`,
    details: { part, present, expected },
  });
}

function scoreAll(logits_TE: Tensor2D, config: GateConfig): Tensor2D {
  if (config.score === 'softmax') return softmax(logits_TE);
  return config.score === 'sigmoid' ? sigmoid(logits_TE) : cloneTensor(logits_TE);
}

/** Whether the weights of the chosen experts depend on which others are chosen. */
function dependsOnChoice(config: GateConfig): boolean {
  return config.renormalise || (config.scoreAfterTopK && config.score === 'softmax');
}

interface Weighed {
  /** float32 `[T, E]`, right where an expert is chosen, before `scale`. */
  readonly weights_TE: Tensor2D;
  readonly chosen: Tensor2D | null;
  readonly kept: Tensor2D | null;
  readonly divisor: Tensor2D | null;
}

/** exp(-1e38 - anything) is 0 in float32, and 0 times it is not NaN as it would be for -∞. */
const EXCLUDED = -1e38;

function weighChosen(
  logits_TE: Tensor2D,
  scores_TE: Tensor2D,
  plan: DispatchPlan,
  config: GateConfig,
): Weighed {
  if (!dependsOnChoice(config)) return { weights_TE: scores_TE, chosen: null, kept: null, divisor: null };
  const chosen_TE = tensor2d(chosenExperts(plan), [plan.tokens, plan.experts], 'bool');
  const kept_TE =
    config.scoreAfterTopK && config.score === 'softmax'
      ? softmax(where<Tensor2D>(chosen_TE, logits_TE, EXCLUDED))
      : where<Tensor2D>(chosen_TE, scores_TE, 0);
  if (!config.renormalise) return { weights_TE: kept_TE, chosen: chosen_TE, kept: kept_TE, divisor: null };
  const sum_T1 = sum<Tensor2D>(kept_TE, 1, true);
  const divisor_T1 =
    config.renormaliseEpsilon === 0 ? sum_T1 : add<Tensor2D>(sum_T1, config.renormaliseEpsilon);
  return {
    weights_TE: div<Tensor2D>(kept_TE, divisor_T1),
    chosen: chosen_TE,
    kept: kept_TE,
    divisor: divisor_T1,
  };
}

/** Back from the weights to the scores over all experts, or to the logits when scores come after the top-k. */
function weightGradient(saved: GateSaved, dweights_N: Tensor1D): { dscores?: Tensor2D; dlogits?: Tensor2D } {
  const { config, plan, chosen, kept, divisor } = saved;
  const scaled_N = config.scale === 1 ? dweights_N : mul<Tensor1D>(dweights_N, config.scale);
  const dweights_TE = gatherScoresBackward({ plan }, scaled_N).dscores;
  if (chosen === null || kept === null) return { dscores: dweights_TE };
  let dkept_TE = dweights_TE;
  if (divisor !== null) {
    const weights_TE = div<Tensor2D>(kept, divisor);
    const along_T1 = sum<Tensor2D>(mul(dweights_TE, weights_TE), 1, true);
    dkept_TE = div<Tensor2D>(sub(dweights_TE, along_T1), divisor);
  }
  if (config.scoreAfterTopK && config.score === 'softmax')
    return { dlogits: softmaxGradient(kept, dkept_TE) };
  return { dscores: where<Tensor2D>(chosen, dkept_TE, 0) };
}

function scoreGradient(scores_TE: Tensor2D, dscores_TE: Tensor2D, config: GateConfig): Tensor2D {
  if (config.score === 'identity') return dscores_TE;
  if (config.score === 'softmax') return softmaxGradient(scores_TE, dscores_TE);
  return mul<Tensor2D>(dscores_TE, mul(scores_TE, sub(scalar(1), scores_TE)));
}

/** `p ⊙ (dp - Σ dp ⊙ p)` for softmax rows `p` `[T, E]`. */
function softmaxGradient(p_TE: Tensor2D, dp_TE: Tensor2D): Tensor2D {
  const along_T1 = sum<Tensor2D>(mul(dp_TE, p_TE), 1, true);
  return mul<Tensor2D>(p_TE, sub(dp_TE, along_T1));
}

function sumOf(...terms: readonly (Tensor2D | null | undefined)[]): Tensor2D | null {
  let total: Tensor | null = null;
  for (const term of terms) if (term != null) total = total === null ? term : add(total, term);
  return total as Tensor2D | null;
}
