/**
 * @file The expert half of a decoder layer for inference, in one call: norm, router, softmax, top-k, experts, residual. One kernel on
 * the native engine, which makes the plan inside and reads nothing back; composed pairs elsewhere.
 *
 * Legend: `T` rows · `D` model width · `F` expert hidden width · `E` experts · `K` top-k.
 */
import { MoebiusError } from '@moebius/core';
import { add, div, mul, softmax, sum, tensor1d } from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { readHostSync, runOp } from '../ownership.ts';
import type { Activation } from './activation.ts';
import { assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import { expertFeedForwardForward } from './expert-feed-forward.ts';
import { assertGatedWeights } from './gated-feed-forward.ts';
import type { GatedWeights } from './gated-feed-forward.ts';
import { gatherScoresForward } from './gather-scores.ts';
import { linearForward } from './linear.ts';
import { rmsNormForward } from './rms-norm.ts';
import { planRows } from './row-plan.ts';
import { topKForward } from './top-k.ts';

/** Weights of the expert half of a layer. */
export interface RoutedBlockWeights {
  /** float32 `[D]`: RMS norm before router and experts; null: none. */
  readonly norm: Tensor1D | null;
  /** float32 `[E, D]`. */
  readonly router: Tensor2D;
  /** One per expert, matrices float32 `[F, D]`. */
  readonly experts: readonly GatedWeights[];
}

/** Options of {@link routedBlock}. */
export interface RoutedBlockOptions {
  /** Experts per row `K`. */
  readonly topK: number;
  /** Whether the chosen weights are divided by their sum; default false. */
  readonly normalize?: boolean;
  /** Multiplies the weights; default 1. */
  readonly scale?: number;
  /** Of the norm; default 1e-6. */
  readonly epsilon?: number;
  /** Default `silu`. */
  readonly activation?: Activation;
}

/** Value of {@link routedBlock}. */
export interface RoutedBlockValue {
  /** float32 `[T, D]`: `x + experts(rmsNorm(x))`. */
  readonly y: Tensor2D;
  /** int32 `[T, K]`: chosen experts, best first, ties to the lowest id. */
  readonly ids: Tensor2D;
  /** float32 `[T, K]`: their weights. */
  readonly weights: Tensor2D;
}

/**
 * `x + Σ w_e · expert_e(rmsNorm(x))` over the top `K` of a softmax over all experts. There is no backward.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param weights - borrowed
 * @returns output, chosen experts and weights, owned by the caller
 * @throws `shape`
 */
export function routedBlock(
  x_TD: Tensor2D,
  weights: RoutedBlockWeights,
  options: RoutedBlockOptions,
): RoutedBlockValue {
  const { experts, router, norm } = weights;
  const { topK, normalize = false, scale = 1, epsilon = 1e-6, activation = 'silu' } = options;
  const dims: Dims = { E: experts.length };
  assertShape(x_TD, 'T D', dims, 'routedBlock x');
  if (norm !== null) assertShape(norm, 'D', dims, 'routedBlock norm');
  assertShape(router, 'E D', dims, 'routedBlock router');
  for (const [e, expert] of experts.entries()) assertGatedWeights(expert, dims, `expert ${e}`);
  if (!Number.isInteger(topK) || topK < 1 || topK > experts.length) {
    throw new MoebiusError({
      code: 'shape',
      message: `routedBlock topK: must be an integer in [1, ${experts.length}], got ${topK}`,
      details: { topK, experts: experts.length },
    });
  }
  return runOp('routedBlock', () => {
    const kernel = nativeKernel('MoebiusRoutedBlock');
    if (!kernel) return portable(x_TD, weights, { topK, normalize, scale, epsilon, activation });
    const inputs = [
      x_TD,
      norm ?? tensor1d([], 'float32'),
      router,
      ...experts.map(({ gate }) => gate),
      ...experts.map(({ up }) => up),
      ...experts.map(({ down }) => down),
    ];
    const attributes = { top_k: topK, normalize: normalize ? 1 : 0, scale, epsilon, activation };
    const [y, ids, chosen] = kernel(inputs, attributes) as [Tensor2D, Tensor2D, Tensor2D];
    return { y, ids, weights: chosen };
  });
}

function portable(
  x_TD: Tensor2D,
  weights: RoutedBlockWeights,
  options: Required<RoutedBlockOptions>,
): RoutedBlockValue {
  const { norm, router, experts } = weights;
  const { topK, normalize, scale, epsilon, activation } = options;
  const hidden_TD = norm === null ? x_TD : rmsNormForward(x_TD, norm, { epsilon }).value;
  const scores_TE = softmax(linearForward(hidden_TD, router).value);
  const { values, ids } = topKForward(scores_TE, topK).value;
  const factor = normalize ? div(scale, sum(values, 1, true)) : scale;
  const host = readHostSync(ids);
  const chosen = Array.from({ length: x_TD.shape[0] }, (_, t) =>
    Array.from(host.subarray(t * topK, (t + 1) * topK)),
  );
  const plan = planRows(chosen, experts.length);
  const weights_N = gatherScoresForward(mul(scores_TE, factor), plan).value;
  const mixed = expertFeedForwardForward(hidden_TD, weights_N, { plan, experts, activation });
  return { y: add(x_TD, mixed.value), ids, weights: mul(values, factor) };
}
