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
  assertCount,
  assertShape,
  cloneTensor,
  linearBackward,
  linearForward,
  readHostSync,
  runOp,
  tensor1d,
} from '@moebius/tensor';
import type { LinearSaved, Tensor1D, Tensor2D } from '@moebius/tensor';

import { badLogits } from './bad-logits.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import { parseGateConfig } from './gate-config.ts';
import type { GateConfig } from './gate-config.ts';
import { planTopK } from './plan-top-k.ts';
import type { PairsRoute } from './route.ts';
import { addPresent, scoreBackward, scoreForward } from './score-function.ts';
import { selectExperts, weighSelection } from './select-experts.kernel.ts';
import { weighBackward, weighForward } from './weigh-chosen.ts';
import type { WeighSaved, WeighSettings } from './weigh-chosen.ts';

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
  /** Of the weights. */
  readonly weighed: WeighSaved;
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
    const scores_TE = scoreForward(logits_TE, config.score);
    const source = { logits: logits_TE, scores: scores_TE, plan };
    const { value: weights_N, saved: weighed } = weighForward(source, weighSettings(config));
    return {
      route: { kind: 'pairs' as const, plan, weights: weights_N },
      logits: logits_TE,
      scores: scores_TE,
      saved: { config, plan, linear, scores: cloneTensor(scores_TE), weighed },
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
    const viaWeights =
      upstream.dweights === undefined ? null : weighBackward(saved.weighed, upstream.dweights);
    const dscores_TE = addPresent(upstream.dscores, viaWeights?.dscores);
    const viaScores_TE = dscores_TE === null ? null : scoreBackward(saved.scores, dscores_TE, config.score);
    const dlogits_TE = addPresent(upstream.dlogits, viaScores_TE, viaWeights?.dlogits);
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
  if (badToken >= 0) throw badLogits(logits, badToken, { experts, layer: options.layer });
  const plan = planTopK(ids, { tokens, experts, topK: config.topK, ...(mask === undefined ? {} : { mask }) });
  return { plan, ids, logits };
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

function weighSettings(config: GateConfig): WeighSettings {
  const { scoreAfterTopK, score, renormalise, renormaliseEpsilon: epsilon, scale } = config;
  return { softmaxChosen: scoreAfterTopK && score === 'softmax', renormalise, epsilon, scale };
}
