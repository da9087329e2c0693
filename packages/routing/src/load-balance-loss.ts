/**
 * @file Load-balance losses: Switch's E·Σ f·P in the forms that published trainers use.
 *
 * `f_e` is the share of tokens that chose expert e (a count, no gradient), `P_e` the mean probability of expert e.
 * * `pooled` (Hugging Face): all layers are pooled before the product, so opposite imbalances of two layers cancel.
 * * `per-layer`: the product is formed in each layer, then averaged.
 * * `per-sequence` (DeepSeek's sequence-wise form): the product is formed in each sequence of each layer, then averaged.
 *
 * `f` sums to k, so perfect balance is worth k, or 1 with `divideByTopK` (1 is then the minimum at balance, as in Switch).
 *
 * Probabilities: softmax scores as they are; sigmoids, square roots and ReLUs divided by their sum (a row of zeros stays zeros);
 * softmax of the logits for `identity`.
 *
 * Letters: `T` tokens, `E` experts, `B` sequences, `S` tokens of a sequence.
 */
import { MoebiusError } from '@moebius/core';
import {
  div,
  greater,
  mul,
  reshape,
  runOp,
  softmax,
  sub,
  sum,
  tensor2d,
  tensor3d,
  tile,
  where,
} from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { countAssignments, countTokens } from './balance-loss.kernel.ts';
import { defineBalanceLoss } from './balance-loss.ts';
import type {
  BalanceLoss,
  GateObservation,
  HostStatistics,
  LossGradient,
  LossGradientOptions,
  LossStatistics,
} from './balance-loss.ts';

/** Settings of {@link loadBalanceLoss}. */
export interface LoadBalanceOptions {
  /** Where the product of load and probability is formed. */
  readonly pooling: 'pooled' | 'per-layer' | 'per-sequence';
  /** Divide by k, so that balance is worth 1 for every k. Default false (Hugging Face). */
  readonly divideByTopK?: boolean;
  /** Tokens of a sequence `S`; required by `per-sequence`. Token `b·S + s` belongs to sequence b. */
  readonly sequenceTokens?: number;
}

/**
 * A load-balance loss.
 *
 * @param options - form and scale
 * @returns a loss named `load-balance`
 * @throws `configuration` when `per-sequence` has no sequence length
 * @example
 * ```ts
 * const huggingFace = loadBalanceLoss({ pooling: 'pooled' });
 * const deepseek = loadBalanceLoss({ pooling: 'per-sequence', sequenceTokens: 4096, divideByTopK: true });
 * ```
 */
export function loadBalanceLoss(options: LoadBalanceOptions): BalanceLoss {
  const divideByTopK = options.divideByTopK ?? false;
  if (options.pooling === 'per-sequence') return sequenceLoss(readSequenceTokens(options), divideByTopK);
  const pooled = options.pooling === 'pooled';
  return defineBalanceLoss({
    name: 'load-balance',
    statistics: batchStatistics,
    value: (layers) => batchValue(pooled ? [addAll(layers)] : layers, divideByTopK),
    gradient: (observation, request) => batchGradient(observation, request, { pooled, divideByTopK }),
  });
}

function readSequenceTokens(options: LoadBalanceOptions): number {
  const { sequenceTokens } = options;
  if (sequenceTokens !== undefined && Number.isInteger(sequenceTokens) && sequenceTokens >= 1)
    return sequenceTokens;
  throw new MoebiusError({
    code: 'configuration',
    message: `loadBalanceLoss.sequenceTokens: must be an integer of at least 1 for per-sequence, got ${String(sequenceTokens)} (give the sequence length)`,
    details: { sequenceTokens: sequenceTokens ?? null },
  });
}

// Layout: counts = [tokens, k, assignments of each expert…]; sums = [summed probability of each expert…].
// k is weighted by tokens so that it stays additive: counts[1] = tokens · k.

function batchStatistics(observation: GateObservation): LossStatistics {
  const { plan, mask, config } = observation;
  const tokens = countTokens(plan.tokens, mask);
  const counts = Float64Array.of(tokens, tokens * config.topK, ...plan.stats.load);
  const sums = runOp('loadBalance.statistics', () => {
    const probability_TE = probabilities(observation);
    return sum<Tensor1D>(mask === undefined ? probability_TE : mul(probability_TE, maskColumn(mask)), 0);
  });
  return { counts, sums };
}

function batchValue(layers: readonly HostStatistics[], divideByTopK: boolean): number {
  const used = layers.filter((layer) => (layer.counts[0] ?? 0) > 0);
  if (used.length === 0) return 0;
  const total = used.reduce((whole, layer) => whole + layerValue(layer, divideByTopK), 0);
  return total / used.length;
}

function layerValue(layer: HostStatistics, divideByTopK: boolean): number {
  const [tokens = 0, choices = 0] = layer.counts;
  const experts = layer.sums.length;
  const product = layer.sums.reduce((whole, sumOfOne, e) => whole + sumOfOne * (layer.counts[e + 2] ?? 0), 0);
  return (experts * product) / (tokens * tokens) / (divideByTopK ? choices / tokens : 1);
}

interface BatchForm {
  readonly pooled: boolean;
  readonly divideByTopK: boolean;
}

function batchGradient(
  observation: GateObservation,
  request: LossGradientOptions,
  form: BatchForm,
): LossGradient {
  const { counts, layer, scale } = request;
  const own = form.pooled ? addVectors(counts) : (counts[layer] ?? new Float64Array(0));
  const layers = form.pooled ? 1 : counts.filter((vector) => (vector[0] ?? 0) > 0).length;
  const [tokens = 0, choices = 0] = own;
  const experts = observation.plan.experts;
  const perCount =
    tokens === 0
      ? 0
      : (scale * experts) / (tokens * tokens * layers) / (form.divideByTopK ? choices / tokens : 1);
  const row_E = Float32Array.from({ length: experts }, (_, e) => perCount * (own[e + 2] ?? 0));
  return runOp('loadBalance.gradient', () => {
    const row_1E = tensor2d(row_E, [1, experts]);
    const dprobability_TE =
      observation.mask === undefined
        ? tile<Tensor2D>(row_1E, [observation.plan.tokens, 1])
        : mul<Tensor2D>(maskColumn(observation.mask), row_1E);
    return throughProbabilities(observation, dprobability_TE);
  });
}

// Layout of the sequence form: counts = [sequences with tokens]; sums = [Σ over sequences of E·Σ f·P].

function sequenceLoss(sequenceTokens: number, divideByTopK: boolean): BalanceLoss {
  return defineBalanceLoss({
    name: 'load-balance',
    statistics: (observation) => {
      const { counts_B, slope_TE } = sequenceSlopes(observation, sequenceTokens, divideByTopK);
      const sums = runOp(
        'loadBalance.statistics',
        () => reshape(sum(mul(probabilities(observation), slope_TE)), [1]) as Tensor1D,
      );
      slope_TE.dispose();
      return { counts: Float64Array.of(counts_B), sums };
    },
    value: (layers) => {
      const { counts, sums } = addAll(layers);
      return (counts[0] ?? 0) === 0 ? 0 : (sums[0] ?? 0) / (counts[0] ?? 1);
    },
    gradient: (observation, { counts, scale }) =>
      runOp('loadBalance.gradient', () => {
        const sequences = addVectors(counts)[0] ?? 0;
        const { slope_TE } = sequenceSlopes(observation, sequenceTokens, divideByTopK);
        return throughProbabilities(
          observation,
          mul<Tensor2D>(slope_TE, sequences === 0 ? 0 : scale / sequences),
        );
      }),
  });
}

/** Derivative of Σ over sequences of E·Σ f·P by each probability: `E·count_be / tokens_b²`, 0 for masked tokens. */
function sequenceSlopes(
  observation: GateObservation,
  sequenceTokens: number,
  divideByTopK: boolean,
): { counts_B: number; slope_TE: Tensor2D } {
  const { plan, mask, config } = observation;
  const { tokens, experts } = plan;
  if (tokens % sequenceTokens !== 0) {
    throw new MoebiusError({
      code: 'shape',
      message: `loadBalanceLoss.sequenceTokens: must divide tokens ${tokens}, got ${sequenceTokens} (pass whole sequences)`,
      details: { tokens, sequenceTokens },
    });
  }
  const { assignments_BE, tokens_B } = countAssignments(plan, sequenceTokens, mask);
  const sequences = tokens_B.length;
  const factor = experts / (divideByTopK ? config.topK : 1);
  const slope_BE = assignments_BE.map((count, at) => {
    const counted = tokens_B[Math.floor(at / experts)] ?? 0;
    return counted === 0 ? 0 : (factor * count) / (counted * counted);
  });
  const slope_TE = runOp('loadBalance.slopes', () => {
    const slope_B1E = tensor3d(slope_BE, [sequences, 1, experts]);
    const tiled_TE = reshape(tile(slope_B1E, [1, sequenceTokens, 1]), [tokens, experts]) as Tensor2D;
    return mask === undefined ? tiled_TE : mul<Tensor2D>(tiled_TE, maskColumn(mask));
  });
  return { counts_B: tokens_B.reduce((count, counted) => count + (counted > 0 ? 1 : 0), 0), slope_TE };
}

/** float32 `[T, E]`, rows sum to 1. */
function probabilities(observation: GateObservation): Tensor2D {
  const { config, scores, logits } = observation;
  if (config.score === 'softmax') return scores;
  if (config.score === 'identity') return softmax(logits);
  return div<Tensor2D>(scores, rowSums(scores));
}

/** float32 `[T, 1]`; 1 where the sum is 0, as it is for a token that ReLU leaves without an expert. */
function rowSums(scores_TE: Tensor2D): Tensor2D {
  const sum_T1 = sum<Tensor2D>(scores_TE, 1, true);
  return where<Tensor2D>(greater(sum_T1, 0), sum_T1, 1);
}

function throughProbabilities(observation: GateObservation, dprobability_TE: Tensor2D): LossGradient {
  const { config, scores } = observation;
  if (config.score === 'softmax') return { dscores: dprobability_TE };
  const probability_TE = probabilities(observation);
  const along_T1 = sum(mul(dprobability_TE, probability_TE), 1, true);
  const centred_TE = sub<Tensor2D>(dprobability_TE, along_T1);
  if (config.score === 'identity') return { dlogits: mul<Tensor2D>(probability_TE, centred_TE) };
  return { dscores: div<Tensor2D>(centred_TE, rowSums(scores)) };
}

/** Uint8Array `[T]` → float32 `[T, 1]`. */
function maskColumn(mask: Uint8Array): Tensor2D {
  const entries = Float32Array.from(mask, (entry) => (entry === 0 ? 0 : 1));
  return tensor2d(entries, [mask.length, 1]);
}

function addAll(layers: readonly HostStatistics[]): HostStatistics {
  return {
    counts: addVectors(layers.map((layer) => layer.counts)),
    sums: addVectors(layers.map((layer) => layer.sums)),
  };
}

function addVectors(vectors: readonly Float64Array[]): Float64Array {
  const total = new Float64Array(vectors[0]?.length ?? 0);
  for (const vector of vectors)
    for (const [at, entry] of vector.entries()) total[at] = (total[at] ?? 0) + entry;
  return total;
}
