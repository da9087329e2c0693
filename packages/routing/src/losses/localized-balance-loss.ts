/**
 * @file LoRAMoE's localized balancing (2312.09979, §3.3): experts belong to groups (world knowledge, tasks), and so do samples; importance counts
 * 1 + δ where the two agree and 1 - δ where they do not. Balancing that sends a sample to the experts of its group and stays balanced inside.
 *
 * ```
 * Z_be = (1 ± δ) · Σ_{t in sample b} p_te          value: CV² of all Z
 * ```
 * Samples add up (their number, ΣZ, ΣZ²), so micro-batches do.
 *
 * Letters: `T` tokens, `E` experts, `B` samples, `S` tokens of one.
 */
import { configurationError, MoebiusError } from '@moebius/core';
import type { Fault } from '@moebius/core';
import { add, mul, reshape, runOp, stack, sum, tensor2d, tile } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { addLayers } from './add-vectors.ts';
import { tokensOfSequences } from './count-pairs.kernel.ts';
import { masked, probabilities, throughProbabilities } from './probabilities.ts';
import { layersOf } from './totals-loss.ts';
import { defineBalanceLoss } from '../balance-loss.ts';
import type { BalanceLoss, GateObservation } from '../balance-loss.ts';

/** Settings of {@link localizedBalanceLoss}. */
export interface LocalizedBalanceOptions {
  /** `[E]`: group of each expert. */
  readonly expertGroups: readonly number[];
  /** Tokens of a sample `S`: its group is that of its first token (`observation.domain`). */
  readonly sequenceTokens: number;
  /** δ in [0, 1). Default 0.1. */
  readonly delta?: number | undefined;
}

/**
 * LoRAMoE's loss.
 *
 * @param options - groups of the experts, δ
 * @returns a loss named `localized-balance`; δ² for uniform probabilities when half of the pairs of samples and experts agree, 0 for δ = 0
 * @throws `configuration` listing every fault; when it sees a layer, where its tokens have no groups or its experts are others
 */
export function localizedBalanceLoss(options: LocalizedBalanceOptions): BalanceLoss {
  const { expertGroups, sequenceTokens, delta = 0.1 } = options;
  assertOptions(options, delta);
  const settings = { expertGroups, sequenceTokens, delta };
  return defineBalanceLoss({
    name: 'localized-balance',
    needs: ['sums'],
    statistics: (observation) => {
      const { agreement, entries } = agreementOf(observation, settings);
      const sums = runOp('localizedBalance.statistics', () => {
        const z_BE = weighted(observation, agreement, sequenceTokens);
        return stack([sum(z_BE), sum(mul(z_BE, z_BE))]) as Tensor1D;
      });
      return { counts: Float64Array.of(entries), sums };
    },
    value: (layers) => {
      const { n, mean, square } = momentsOf(addLayers(layers));
      return n === 0 || mean === 0 ? 0 : square / mean ** 2 - 1;
    },
    gradient: (observation, request) => {
      const { n, mean, square } = momentsOf(addLayers(layersOf('localized-balance', request)));
      const isEmpty = n === 0 || mean === 0;
      const linear = isEmpty ? 0 : (2 * request.scale) / (n * mean ** 2);
      const constant = isEmpty ? 0 : (-2 * request.scale * square) / (n * mean ** 3);
      const { agreement } = agreementOf(observation, settings);
      return runOp('localizedBalance.gradient', () => {
        const { tokens, experts } = observation.plan;
        const z_BE = weighted(observation, agreement, sequenceTokens);
        const slope_BE = mul(add(mul(z_BE, linear), constant), tensor2d(agreement, z_BE.shape));
        const slope_B1E = reshape(slope_BE, [z_BE.shape[0], 1, experts]);
        const slope_TE = reshape(tile(slope_B1E, [1, sequenceTokens, 1]), [tokens, experts]) as Tensor2D;
        return throughProbabilities(observation, masked(slope_TE, observation.mask));
      });
    },
  });
}

type Settings = Required<{ [K in keyof LocalizedBalanceOptions]: NonNullable<LocalizedBalanceOptions[K]> }>;

/** float32 `[B, E]`: Z. */
function weighted(observation: GateObservation, agreement: Float32Array, sequenceTokens: number): Tensor2D {
  const { plan, mask } = observation;
  const samples = plan.tokens / sequenceTokens;
  const probability_BSE = reshape(masked(probabilities(observation), mask), [
    samples,
    sequenceTokens,
    plan.experts,
  ]);
  return mul<Tensor2D>(sum(probability_BSE, 1), tensor2d(agreement, [samples, plan.experts]));
}

/** Float32Array `[B, E]`: 1 ± δ, 0 for samples without a token; and how many entries count. */
function agreementOf(
  { plan, mask, domain }: GateObservation,
  { expertGroups, sequenceTokens, delta }: Settings,
): { readonly agreement: Float32Array; readonly entries: number } {
  const { tokens, experts } = plan;
  if (domain === undefined)
    throw refuse(
      'observation.domain',
      'must be given, one a token',
      'none',
      'tell the layer which domain a token is of',
    );
  if (expertGroups.length !== experts)
    throw refuse(
      'localizedBalanceLoss.expertGroups',
      `must have ${experts} entries, one an expert`,
      expertGroups.length,
      'name the group of each',
    );
  if (tokens % sequenceTokens !== 0)
    throw refuse(
      'localizedBalanceLoss.sequenceTokens',
      `must divide tokens ${tokens}`,
      sequenceTokens,
      'pass whole samples',
    );
  const tokens_B = tokensOfSequences(tokens, sequenceTokens, mask);
  const agreement = new Float32Array(tokens_B.length * experts);
  for (const [b, counted] of tokens_B.entries()) {
    if (counted === 0) continue;
    const group = domain[b * sequenceTokens];
    agreement.set(
      expertGroups.map((own) => (own === group ? 1 + delta : 1 - delta)),
      b * experts,
    );
  }
  return { agreement, entries: experts * tokens_B.filter((counted) => counted > 0).length };
}

function momentsOf({ counts, sums }: { counts: Float64Array; sums: Float64Array }): {
  n: number;
  mean: number;
  square: number;
} {
  const n = counts[0] ?? 0;
  return { n, mean: (sums[0] ?? 0) / n, square: (sums[1] ?? 0) / n };
}

function assertOptions({ expertGroups, sequenceTokens }: LocalizedBalanceOptions, delta: number): void {
  const faults: Fault[] = [];
  if (expertGroups.length === 0)
    faults.push({ path: 'expertGroups', expectation: 'must name the group of each expert', got: 'none' });
  if (!Number.isInteger(sequenceTokens) || sequenceTokens < 1)
    faults.push({
      path: 'sequenceTokens',
      expectation: 'must be an integer of at least 1',
      got: String(sequenceTokens),
    });
  if (!(delta >= 0 && delta < 1))
    faults.push({ path: 'delta', expectation: 'must be in [0, 1)', got: String(delta) });
  if (faults.length > 0) throw configurationError('localizedBalanceLoss', faults);
}

function refuse(subject: string, expectation: string, got: string | number, remedy: string): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: `${subject}: ${expectation}, got ${got} (${remedy})`,
    details: { subject, got },
  });
}
