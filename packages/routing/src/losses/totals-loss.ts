/**
 * @file Losses of totals: a function of what each expert got in all, Φ(Σ_t amount_t1, …, Σ_t amount_tX). It is not linear, so its gradient needs the
 * reduced sums: dΦ by each total, the same for every token.
 *
 * Letters: `T` tokens, `E` experts, `X` totals.
 */
import { MoebiusError } from '@moebius/core';
import { mul, runOp, sum, tensor2d, tile } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { addLayers } from './add-vectors.ts';
import { countTokens } from './count-pairs.kernel.ts';
import { maskColumn, masked } from './probabilities.ts';
import { defineBalanceLoss } from '../balance-loss.ts';
import type {
  BalanceLoss,
  GateObservation,
  HostStatistics,
  LossGradient,
  LossGradientOptions,
} from '../balance-loss.ts';

/** What makes one of these losses. */
export interface TotalsForm {
  /** Of the loss. */
  readonly name: string;
  /** All layers as one, or each by itself and their mean. Default `per-layer`. */
  readonly pooling?: 'pooled' | 'per-layer' | undefined;
  /** float32 `[T, X]`. Runs in a scope. */
  amounts(observation: GateObservation): Tensor2D;
  /** Gradient of `damounts` `[T, X]`, 0 for masked tokens. Runs in a scope. */
  throughAmounts(observation: GateObservation, damounts_TX: Tensor2D): LossGradient;
  /** Φ and its derivative by each total, for at least one token. */
  evaluate(totals: Float64Array, tokens: number): { readonly value: number; readonly slopes: Float64Array };
}

/** The loss of a form: counts = [tokens], sums = totals. */
export function totalsLoss(form: TotalsForm): BalanceLoss {
  return defineBalanceLoss({
    name: form.name,
    needs: ['sums'],
    statistics: (observation) => ({
      counts: Float64Array.of(countTokens(observation.plan.tokens, observation.mask)),
      sums: runOp(`${form.name}.statistics`, () =>
        sum<Tensor1D>(masked(form.amounts(observation), observation.mask), 0),
      ),
    }),
    value: (layers) => {
      const used = usedLayers(form, layers);
      if (used.length === 0) return 0;
      return used.reduce((total, layer) => total + evaluate(form, layer).value, 0) / used.length;
    },
    gradient: (observation, request) => gradient(form, observation, request),
  });
}

function usedLayers({ pooling }: TotalsForm, layers: readonly HostStatistics[]): HostStatistics[] {
  const groups = pooling === 'pooled' ? [addLayers(layers)] : layers;
  return groups.filter(({ counts }) => (counts[0] ?? 0) > 0);
}

function evaluate(form: TotalsForm, { counts, sums }: HostStatistics): ReturnType<TotalsForm['evaluate']> {
  return form.evaluate(sums, counts[0] ?? 0);
}

function gradient(
  form: TotalsForm,
  observation: GateObservation,
  request: LossGradientOptions,
): LossGradient {
  const layers = layersOf(form.name, request);
  const { plan, mask } = observation;
  const pooled = form.pooling === 'pooled';
  const used = usedLayers(form, layers);
  const own = pooled ? used[0] : layers[request.layer];
  const slopes = own === undefined || (own.counts[0] ?? 0) === 0 ? null : evaluate(form, own).slopes;
  return runOp(`${form.name}.gradient`, () => {
    const width = layers[0]?.sums.length ?? plan.experts;
    const row_X = Float32Array.from(
      { length: width },
      (_, x) => (request.scale * (slopes?.[x] ?? 0)) / Math.max(1, used.length),
    );
    const row_1X = tensor2d(row_X, [1, width]);
    const damounts_TX =
      mask === undefined ? tile<Tensor2D>(row_1X, [plan.tokens, 1]) : mul<Tensor2D>(maskColumn(mask), row_1X);
    return form.throughAmounts(observation, damounts_TX);
  });
}

/**
 * Counts and sums of each layer.
 *
 * @throws `configuration` when the sums were not given
 */
export function layersOf(name: string, { counts, sums }: LossGradientOptions): HostStatistics[] {
  return counts.map((vector, at) => {
    const own = sums?.[at];
    if (own !== undefined) return { counts: vector, sums: own };
    throw new MoebiusError({
      code: 'configuration',
      message: `balance loss "${name}" gradient: must be given the reduced sums of every layer, got none for layer ${at} (pass sums where a loss needs them)`,
      details: { name, layer: at },
    });
  });
}
