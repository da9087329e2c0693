/**
 * @file Weight gather: the score of each routed pair, taken from the `[T, E]` scores on the device.
 *
 * Legend: `T` tokens · `E` experts · `N` routed pairs.
 */
import { gather, tensor1d, tensor2d } from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { readHostSync, runOp } from '../ownership.ts';
import { assertShape } from './assert-shape.ts';
import { toIndexTensor } from './index-tensor.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { as1D, as2D } from './reshape.ts';
import { assertRowPlan, countPairs } from './row-plan.ts';
import type { RowPlan } from './row-plan.ts';
import { addByIndex } from './scatter.kernel.ts';

/** What {@link gatherScoresBackward} needs. No tensor. */
export interface GatherScoresSaved {
  /** The plan. */
  readonly plan: RowPlan;
}

/** Gradient of {@link gatherScoresForward}. */
export interface GatherScoresGradients {
  /** float32 `[T, E]`, zero where no pair was routed. */
  readonly dscores: Tensor2D;
}

/**
 * `weights[n] = scores[source[n]]`, with `source[n] = t·E + e`.
 *
 * @param scores_TE - float32 `[T, E]`, borrowed
 * @param plan - borrowed; its arrays must not be written while `saved` lives
 * @returns `weights` float32 `[N]`; the caller owns it
 * @throws `shape`
 */
export function gatherScoresForward(
  scores_TE: Tensor2D,
  plan: RowPlan,
): Forward<Tensor1D, GatherScoresSaved> {
  assertRowPlan(plan);
  assertShape(scores_TE, 'T E', { T: plan.tokens, E: plan.experts }, 'gatherScores scores');
  const value = runOp('gatherScores', () => {
    if (countPairs(plan) === 0) return tensor1d([], 'float32');
    const kernel = nativeKernel('MoebiusGatherRows');
    const source_N = toIndexTensor(plan.source);
    if (!kernel) return gather(as1D(scores_TE), source_N);
    return as1D(kernel([as2D(scores_TE, scores_TE.size, 1), source_N])[0] as Tensor2D);
  });
  return { value, saved: { plan } };
}

/**
 * Gradient of {@link gatherScoresForward}: each pair's gradient at its place, zero elsewhere.
 *
 * @param saved - borrowed
 * @param dweights_N - float32 `[N]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function gatherScoresBackward(saved: GatherScoresSaved, dweights_N: Tensor1D): GatherScoresGradients {
  const { plan } = saved;
  const { tokens, experts } = plan;
  assertShape(dweights_N, 'N', { N: countPairs(plan) }, 'gatherScores dweights');
  const dscores = runOp('gatherScores.backward', () => {
    const kernel = nativeKernel('MoebiusScatterScores');
    if (kernel && countPairs(plan) > 0) {
      return kernel([dweights_N, toIndexTensor(plan.source)], { tokens, experts })[0] as Tensor2D;
    }
    const placed = addByIndex(readHostSync(dweights_N), plan.source, tokens * experts);
    return tensor2d(placed, [tokens, experts]);
  });
  return { dscores };
}

/**
 * Gathers the score of each routed pair, differentiable on the tape.
 *
 * @param scores_TE - float32 `[T, E]`
 * @returns float32 `[N]`, owned by the caller
 */
export function gatherScores(scores_TE: Tensor2D, plan: RowPlan): Tensor1D {
  return runOnTape([scores_TE], {
    forward: ([scores]) => gatherScoresForward(scores as Tensor2D, plan),
    backward: (saved, dy) => [gatherScoresBackward(saved as GatherScoresSaved, dy as Tensor1D).dscores],
  }) as Tensor1D;
}
