/**
 * @file The routed experts of one layer in one operation: gather rows, per-expert gated network, weight, combine.
 *
 * `y[t] = Σ_{pairs n of t} weights[n] · FFN_{expert of n}(x[t])`. A token without pairs gets zeros; an expert without
 * rows costs nothing and gets zero gradients.
 *
 * Legend: `T` tokens · `N` routed pairs · `E` experts · `D` width · `F` hidden width.
 */
import { concat, gather, matMul, mul, slice, zerosLike } from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import type { NativeKernel } from '../native/kernels.ts';
import { cloneTree, runOp } from '../ownership.ts';
import { activate } from './activation.ts';
import type { Activation } from './activation.ts';
import { assertCount, assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import { combineRowsBackward } from './combine-rows.ts';
import { sumPairs } from './combine-pairs.ts';
import { assertGatedWeights, gatedGradients } from './gated-feed-forward.ts';
import type { FeedForwardOptions, GatedWeights } from './gated-feed-forward.ts';
import { toIndexTensor } from './index-tensor.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { zeros2D } from './reshape.ts';
import { assertRowPlan, countPairs } from './row-plan.ts';
import type { RowPlan } from './row-plan.ts';

/** Options of {@link expertFeedForwardForward}. */
export interface ExpertFeedForwardOptions extends FeedForwardOptions {
  /** Which rows go where; its arrays must not be written while `saved` lives. */
  readonly plan: RowPlan;
}

/** What {@link expertFeedForwardBackward} needs. */
export interface ExpertFeedForwardSaved {
  /** float32 `[T, D]`. */
  readonly x: Tensor2D;
  /** float32 `[N]`. */
  readonly weights: Tensor1D;
  /** Clones of the experts' weights. */
  readonly experts: readonly GatedWeights[];
  /** What the body that ran keeps: native `g, u` float32 `[N, F]`; portable `g, u` `[N, F]` and `y` `[N, D]`. */
  readonly kept: readonly Tensor2D[];
  /** int32 lists of the plan on the device (native only): offsets, token, token offsets, slot. */
  readonly lists: readonly Tensor1D[];
  /** The plan. */
  readonly plan: RowPlan;
  /** The activation. */
  readonly activation: Activation;
}

/** Gradients of {@link expertFeedForwardForward}. */
export interface ExpertFeedForwardGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** float32 `[N]`. */
  readonly dweights: Tensor1D;
  /** Per expert, each float32 `[F, D]`; zeros for experts without rows. */
  readonly experts: readonly GatedWeights[];
}

/**
 * The weighted sum of each token's experts.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param weights_N - float32 `[N]`, borrowed
 * @param input - the experts' weights, each float32 `[F, D]`, borrowed; the plan and options
 * @returns `y` float32 `[T, D]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function expertFeedForwardForward(
  x_TD: Tensor2D,
  weights_N: Tensor1D,
  input: ExpertFeedForwardOptions & { readonly experts: readonly GatedWeights[] },
): Forward<Tensor2D, ExpertFeedForwardSaved> {
  const { plan, experts, activation = 'silu' } = input;
  assertInputs(x_TD, weights_N, plan, experts);
  return runOp('expertFeedForward', () => {
    const kernel = countPairs(plan) > 0 ? nativeKernel('MoebiusExpertFeedForward') : undefined;
    const lists = kernel ? planLists(plan) : [];
    const inputs = [x_TD, weights_N, ...lists, ...flattenExperts(experts)];
    const [value, ...kept] = kernel
      ? (kernel(inputs, { activation }) as [Tensor2D, ...Tensor2D[]])
      : portableForward(x_TD, weights_N, experts, plan, activation);
    const clones = cloneTree({ x: x_TD, weights: weights_N, experts: experts.map(onlyWeights) });
    return { value, saved: { ...clones, kept, lists, plan, activation } };
  });
}

function assertInputs(
  x_TD: Tensor2D,
  weights_N: Tensor1D,
  plan: RowPlan,
  experts: readonly GatedWeights[],
): void {
  assertRowPlan(plan);
  const dims: Dims = { T: plan.tokens, N: countPairs(plan) };
  assertShape(x_TD, 'T D', dims, 'expertFeedForward x');
  assertShape(weights_N, 'N', dims, 'expertFeedForward weights');
  assertCount(experts.length, plan.experts, 'expertFeedForward experts');
  for (const [e, expert] of experts.entries()) assertGatedWeights(expert, dims, `expert ${e}`);
}

function onlyWeights({ gate, up, down }: GatedWeights): GatedWeights {
  return { gate, up, down };
}

function planLists(plan: RowPlan): Tensor1D[] {
  return [plan.offsets, plan.token, plan.tokenOffsets, plan.slot].map(toIndexTensor);
}

function flattenExperts(experts: readonly GatedWeights[]): Tensor2D[] {
  return [
    ...experts.map((expert) => expert.gate),
    ...experts.map((expert) => expert.up),
    ...experts.map((expert) => expert.down),
  ];
}

function portableForward(
  x_TD: Tensor2D,
  weights_N: Tensor1D,
  experts: readonly GatedWeights[],
  plan: RowPlan,
  activation: Activation,
): [Tensor2D, ...Tensor2D[]] {
  const width = x_TD.shape[1];
  const parts: { g: Tensor2D; u: Tensor2D; y: Tensor2D }[] = [];
  for (const [e, expert] of experts.entries()) {
    const rows = expertRows(plan, e);
    if (rows.length === 0) continue;
    const x_RD = gather(x_TD, toIndexTensor(rows));
    const g = matMul(x_RD, expert.gate, false, true) as Tensor2D;
    const u = matMul(x_RD, expert.up, false, true) as Tensor2D;
    parts.push({ g, u, y: matMul(mul(activate(g, activation), u), expert.down) as Tensor2D });
  }
  if (parts.length === 0) return [zeros2D(plan.tokens, width)];
  const g_NF = joinRows(parts.map((part) => part.g));
  const u_NF = joinRows(parts.map((part) => part.u));
  const y_ND = joinRows(parts.map((part) => part.y));
  return [sumPairs(y_ND, weights_N, plan), g_NF, u_NF, y_ND];
}

function joinRows(parts: Tensor2D[]): Tensor2D {
  return concat(parts, 0);
}

function expertRows(plan: RowPlan, expert: number): Int32Array {
  return plan.token.subarray(plan.offsets[expert], plan.offsets[expert + 1]);
}

/**
 * Gradients of {@link expertFeedForwardForward}.
 *
 * @param saved - borrowed
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function expertFeedForwardBackward(
  saved: ExpertFeedForwardSaved,
  dy_TD: Tensor2D,
): ExpertFeedForwardGradients {
  const { x, lists } = saved;
  assertShape(dy_TD, 'T D', { T: x.shape[0], D: x.shape[1] }, 'expertFeedForward dy');
  return runOp('expertFeedForward.backward', () => {
    const kernel = lists.length > 0 ? nativeKernel('MoebiusExpertFeedForwardGrad') : undefined;
    return kernel ? nativeBackward(kernel, saved, dy_TD) : portableBackward(saved, dy_TD);
  });
}

function nativeBackward(
  kernel: NativeKernel,
  saved: ExpertFeedForwardSaved,
  dy_TD: Tensor2D,
): ExpertFeedForwardGradients {
  const { x, weights, experts, kept, lists, activation } = saved;
  const inputs: Tensor[] = [x, weights, ...lists, ...flattenExperts(experts), ...kept, dy_TD];
  const outputs = kernel(inputs, { activation });
  const [dx, dweights, ...flat] = outputs as [Tensor2D, Tensor1D, ...Tensor2D[]];
  const count = experts.length;
  const of = (list: number, e: number): Tensor2D => flat[list * count + e] as Tensor2D;
  return { dx, dweights, experts: experts.map((_, e) => ({ gate: of(0, e), up: of(1, e), down: of(2, e) })) };
}

function portableBackward(saved: ExpertFeedForwardSaved, dy_TD: Tensor2D): ExpertFeedForwardGradients {
  const { x, weights, experts, kept, plan, activation } = saved;
  const [g_NF, u_NF, y_ND] = kept;
  if (g_NF === undefined || u_NF === undefined || y_ND === undefined) {
    return { dx: zerosLike(x), dweights: zerosLike(weights), experts: experts.map(zeroGradients) };
  }
  const combined = combineRowsBackward({ y: y_ND, weights, plan }, dy_TD);
  const dx_parts: Tensor2D[] = [];
  const gradients = experts.map((expert, e) => {
    const rows = expertRows(plan, e);
    if (rows.length === 0) return zeroGradients(expert);
    const part = (all: Tensor2D): Tensor2D =>
      slice(all, [plan.offsets[e] ?? 0, 0], [rows.length, all.shape[1]]);
    const x_RD = gather(x, toIndexTensor(rows));
    const own = { x: x_RD, g: part(g_NF), u: part(u_NF), weights: expert, activation };
    const { dx, dweights } = gatedGradients(own, part(combined.dy));
    dx_parts.push(dx);
    return dweights;
  });
  const dx = sumPairs(joinRows(dx_parts), undefined, plan);
  return { dx, dweights: combined.dweights, experts: gradients };
}

function zeroGradients(expert: GatedWeights): GatedWeights {
  return { gate: zerosLike(expert.gate), up: zerosLike(expert.up), down: zerosLike(expert.down) };
}

/**
 * The weighted sum of each token's experts, differentiable on the tape.
 *
 * @param x_TD - float32 `[T, D]`
 * @param weights_N - float32 `[N]`
 * @param input - the experts' weights, each float32 `[F, D]`; the plan and options
 * @returns float32 `[T, D]`, owned by the caller
 */
export function expertFeedForward(
  x_TD: Tensor2D,
  weights_N: Tensor1D,
  input: ExpertFeedForwardOptions & { readonly experts: readonly GatedWeights[] },
): Tensor2D {
  const { experts } = input;
  return runOnTape([x_TD, weights_N, ...flattenExperts(experts)], {
    forward: ([x, weights, ...flat]) => {
      const count = experts.length;
      const of = (list: number, e: number): Tensor2D => flat[list * count + e] as Tensor2D;
      const given = experts.map((_, e) => ({ gate: of(0, e), up: of(1, e), down: of(2, e) }));
      return expertFeedForwardForward(x as Tensor2D, weights as Tensor1D, { ...input, experts: given });
    },
    backward: (saved, dy) => {
      const gradients = expertFeedForwardBackward(saved, dy as Tensor2D);
      return [gradients.dx, gradients.dweights, ...flattenExperts(gradients.experts)];
    },
  }) as Tensor2D;
}
