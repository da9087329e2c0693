/**
 * @file Losses that are a product of counts and means: Σ_e slope_e · mean over tokens of amount_te. The slopes come from the plan's counts, so
 * no gradient goes through them; the amounts are probabilities (or scores) and carry it. Switch, GShard, all of DeepSeek's, ReMoE and AdaMoE are
 * such losses and differ in what they count and what the counts become.
 *
 * Letters: `T` tokens, `E` experts, `B` sequences, `S` tokens of a sequence, `X` things counted.
 */
import { MoebiusError } from '@moebius/core';
import { mul, reshape, runOp, sum, tensor2d, tensor3d, tile } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { addLayers, addVectors } from './add-vectors.ts';
import { countTokens, tokensOfSequences } from './count-pairs.kernel.ts';
import type { CountPairs } from './count-pairs.kernel.ts';
import { maskColumn, masked, probabilities, throughProbabilities } from './probabilities.ts';
import type { PoolingOptions } from './pooling.ts';
import { defineBalanceLoss } from '../balance-loss.ts';
import type {
  BalanceLoss,
  GateObservation,
  HostStatistics,
  LossGradient,
  LossGradientOptions,
} from '../balance-loss.ts';

/** The counts of one group of tokens: a layer's, or a sequence's. */
export interface CountedGroup {
  /** Tokens that count, at least 1. */
  readonly tokens: number;
  /** Experts of a token `K`; a mean over layers where pooled ones differ. */
  readonly topK: number;
  /** `E`. */
  readonly experts: number;
  /** `[X]`. */
  readonly load: Float64Array;
}

/** What makes one of these losses. */
export interface ProductForm extends PoolingOptions {
  /** Of the loss. */
  readonly name: string;
  /** Of the function that makes it, for messages. */
  readonly subject: string;
  /** What is counted. */
  readonly count: CountPairs;
  /** Derivative of the value by the mean amount of each expert, `[E]`. */
  slopes(group: CountedGroup): Float64Array;
  /** What the value is beside that product. Default 0. */
  constant?(group: CountedGroup): number;
  /** float32 `[T, E]` that is averaged. Default the probabilities. */
  amounts?(observation: GateObservation): Tensor2D;
  /** Gradient of the amounts. Default that of the probabilities. */
  throughAmounts?(observation: GateObservation, damounts_TE: Tensor2D): LossGradient;
}

/** The loss of a form. */
export function productLoss(form: ProductForm): BalanceLoss {
  if (form.pooling === 'per-sequence') return sequenceLoss(form, readSequenceTokens(form));
  const pooled = form.pooling === 'pooled';
  return defineBalanceLoss({
    name: form.name,
    statistics: (observation) => batchStatistics(form, observation),
    value: (layers) => batchValue(form, pooled ? [addLayers(layers)] : layers),
    gradient: (observation, request) => batchGradient(form, observation, { ...request, pooled }),
  });
}

function readSequenceTokens({ subject, sequenceTokens }: ProductForm): number {
  if (sequenceTokens !== undefined && Number.isInteger(sequenceTokens) && sequenceTokens >= 1)
    return sequenceTokens;
  throw new MoebiusError({
    code: 'configuration',
    message: `${subject}.sequenceTokens: must be an integer of at least 1 for per-sequence, got ${String(sequenceTokens)} (give the sequence length)`,
    details: { sequenceTokens: sequenceTokens ?? null },
  });
}

// Layout: counts = [tokens, tokens·k, load of X…]; sums = [summed amount of each expert…]. k is weighted by tokens so that it adds up.

function batchStatistics(
  form: ProductForm,
  observation: GateObservation,
): { counts: Float64Array; sums: Tensor1D } {
  const { plan, mask, config } = observation;
  const tokens = countTokens(plan.tokens, mask);
  const counts = Float64Array.of(tokens, tokens * config.topK, ...form.count(plan, plan.tokens));
  const sums = runOp(`${form.name}.statistics`, () =>
    sum<Tensor1D>(masked(amountsOf(form, observation), mask), 0),
  );
  return { counts, sums };
}

function groupOf(counts: Float64Array, experts: number): CountedGroup | null {
  const [tokens = 0, choices = 0] = counts;
  return tokens === 0 ? null : { tokens, topK: choices / tokens, experts, load: counts.subarray(2) };
}

function batchValue(form: ProductForm, layers: readonly HostStatistics[]): number {
  const values = layers.flatMap(({ counts, sums }) => {
    const group = groupOf(counts, sums.length);
    return group === null ? [] : [groupValue(form, group, sums)];
  });
  return values.length === 0 ? 0 : values.reduce((total, value) => total + value, 0) / values.length;
}

function groupValue(form: ProductForm, group: CountedGroup, sums: ArrayLike<number>): number {
  const slopes = form.slopes(group);
  const product = slopes.reduce((total, slope, e) => total + slope * (sums[e] ?? 0), 0);
  return (form.constant?.(group) ?? 0) + product / group.tokens;
}

function batchGradient(
  form: ProductForm,
  observation: GateObservation,
  { counts, layer, scale, pooled }: LossGradientOptions & { readonly pooled: boolean },
): LossGradient {
  const { mask, plan } = observation;
  const own = pooled ? addVectors(counts) : (counts[layer] ?? new Float64Array(0));
  const layers = pooled ? 1 : counts.filter((vector) => (vector[0] ?? 0) > 0).length;
  const group = groupOf(own, plan.experts);
  const row_E =
    group === null
      ? new Float32Array(plan.experts)
      : Float32Array.from(form.slopes(group), (slope) => (scale * slope) / (group.tokens * layers));
  return runOp(`${form.name}.gradient`, () => {
    const row_1E = tensor2d(row_E, [1, plan.experts]);
    const damounts_TE =
      mask === undefined ? tile<Tensor2D>(row_1E, [plan.tokens, 1]) : mul<Tensor2D>(maskColumn(mask), row_1E);
    return throughAmounts(form, observation, damounts_TE);
  });
}

function amountsOf(form: ProductForm, observation: GateObservation): Tensor2D {
  return form.amounts === undefined ? probabilities(observation) : form.amounts(observation);
}

function throughAmounts(
  form: ProductForm,
  observation: GateObservation,
  damounts_TE: Tensor2D,
): LossGradient {
  return form.throughAmounts === undefined
    ? throughProbabilities(observation, damounts_TE)
    : form.throughAmounts(observation, damounts_TE);
}

// Layout of the sequence form: counts = [sequences with tokens, Σ of their constants]; sums = [Σ over sequences of the product].

function sequenceLoss(form: ProductForm, sequenceTokens: number): BalanceLoss {
  return defineBalanceLoss({
    name: form.name,
    statistics: (observation) => {
      const { sequences, constants, slope_TE } = sequenceSlopes(form, observation, sequenceTokens);
      const sums = runOp(
        `${form.name}.statistics`,
        () => reshape(sum(mul(amountsOf(form, observation), slope_TE)), [1]) as Tensor1D,
      );
      slope_TE.dispose();
      return { counts: Float64Array.of(sequences, constants), sums };
    },
    value: (layers) => {
      const { counts, sums } = addLayers(layers);
      const [sequences = 0, constants = 0] = counts;
      return sequences === 0 ? 0 : (constants + (sums[0] ?? 0)) / sequences;
    },
    gradient: (observation, { counts, scale }) =>
      runOp(`${form.name}.gradient`, () => {
        const sequences = addVectors(counts)[0] ?? 0;
        const { slope_TE } = sequenceSlopes(form, observation, sequenceTokens);
        return throughAmounts(
          form,
          observation,
          mul<Tensor2D>(slope_TE, sequences === 0 ? 0 : scale / sequences),
        );
      }),
  });
}

/** Derivative of the sum over sequences by each amount `[T, E]`: slope over the sequence's tokens, 0 for masked tokens. */
function sequenceSlopes(
  form: ProductForm,
  observation: GateObservation,
  sequenceTokens: number,
): { sequences: number; constants: number; slope_TE: Tensor2D } {
  const { plan, mask, config } = observation;
  const { tokens, experts } = plan;
  if (tokens % sequenceTokens !== 0) throw notWhole(form, tokens, sequenceTokens);
  const tokens_B = tokensOfSequences(tokens, sequenceTokens, mask);
  const load_BX = form.count(plan, sequenceTokens);
  const width = load_BX.length / tokens_B.length;
  const slope_BE = new Float32Array(tokens_B.length * experts);
  let [sequences, constants] = [0, 0];
  for (const [b, counted] of tokens_B.entries()) {
    if (counted === 0) continue;
    const load = load_BX.subarray(b * width, (b + 1) * width);
    const group: CountedGroup = { tokens: counted, topK: config.topK, experts, load };
    slope_BE.set(
      form.slopes(group).map((slope) => slope / counted),
      b * experts,
    );
    sequences += 1;
    constants += form.constant?.(group) ?? 0;
  }
  const slope_TE = runOp(`${form.name}.slopes`, () => {
    const slope_B1E = tensor3d(slope_BE, [tokens_B.length, 1, experts]);
    const tiled_TE = reshape(tile(slope_B1E, [1, sequenceTokens, 1]), [tokens, experts]) as Tensor2D;
    return masked(tiled_TE, mask);
  });
  return { sequences, constants, slope_TE };
}

function notWhole({ subject }: ProductForm, tokens: number, sequenceTokens: number): MoebiusError {
  return new MoebiusError({
    code: 'shape',
    message: `${subject}.sequenceTokens: must divide tokens ${tokens}, got ${sequenceTokens} (pass whole sequences)`,
    details: { tokens, sequenceTokens },
  });
}
