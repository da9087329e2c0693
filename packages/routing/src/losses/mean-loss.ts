/**
 * @file Losses of single tokens: the mean over tokens of a function of one row. counts = [tokens], sums = [Σ of the function]; the mean is over the
 * tokens of all layers.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { mul, reshape, runOp, sum, tensor1d } from '@moebius/tensor';
import type { Tensor1D } from '@moebius/tensor';

import { countTokens } from './count-pairs.kernel.ts';
import { defineBalanceLoss } from '../balance-loss.ts';
import type { BalanceLoss, GateObservation, LossGradient } from '../balance-loss.ts';

/** What makes one of these losses. */
export interface MeanForm {
  /** Of the loss. */
  readonly name: string;
  /** float32 `[T]`: the function of each row. Runs in a scope. */
  rows(observation: GateObservation): Tensor1D;
  /** Gradient of Σ_t weight_t · row_t for `weight` float32 `[T]`, which is 0 where the token does not count. Runs in a scope. */
  gradient(observation: GateObservation, weight_T: Tensor1D): LossGradient;
}

/** The loss of a form. */
export function meanLoss(form: MeanForm): BalanceLoss {
  return defineBalanceLoss({
    name: form.name,
    statistics: (observation) => ({
      counts: Float64Array.of(countTokens(observation.plan.tokens, observation.mask)),
      sums: runOp(`${form.name}.statistics`, () => {
        const { mask } = observation;
        const rows_T = form.rows(observation);
        const counted_T = mask === undefined ? rows_T : mul(rows_T, tensor1d(weights(mask.length, 1, mask)));
        return reshape(sum(counted_T), [1]) as Tensor1D;
      }),
    }),
    value: (layers) => {
      const tokens = layers.reduce((total, layer) => total + (layer.counts[0] ?? 0), 0);
      const rows = layers.reduce((total, layer) => total + (layer.sums[0] ?? 0), 0);
      return tokens === 0 ? 0 : rows / tokens;
    },
    gradient: (observation, { counts, scale }) => {
      const tokens = counts.reduce((total, vector) => total + (vector[0] ?? 0), 0);
      const { mask, plan } = observation;
      const weight = tokens === 0 ? 0 : scale / tokens;
      return runOp(`${form.name}.gradient`, () =>
        form.gradient(observation, tensor1d(weights(plan.tokens, weight, mask))),
      );
    },
  });
}

function weights(tokens: number, weight: number, mask: Uint8Array | undefined): Float32Array {
  return Float32Array.from({ length: tokens }, (_, t) => (mask?.[t] === 0 ? 0 : weight));
}
