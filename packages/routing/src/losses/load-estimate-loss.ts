/**
 * @file The load loss: CV² of a smooth estimate of how many tokens an expert would get if the noise were drawn again (Shazeer et al. 2017,
 * 1701.06538, appendix A, eq. 8-10; V-MoE, 2106.05974, appendix A). Counts have no gradient; the chance to be among the k best has one:
 *
 * ```
 * shazeer   p_te = Φ((z_te - k-th largest logit of t without e) / σ)
 * v-moe     p_te = Φ((z_te - k-th largest logit of t) / σ)
 * ```
 * Logits are those that the router shows: with a noise stage the noisy ones stand for both, so the estimate is around the draw that was made.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k.
 */
import { MoebiusError } from '@moebius/core';
import {
  add,
  concat,
  div,
  equal,
  erf,
  exp,
  fill,
  maximum,
  mul,
  neg,
  slice,
  square,
  sub,
  sum,
  topKBackward,
  topKForward,
  where,
  zeros,
} from '@moebius/tensor';
import type { Rank, Tensor2D, TopKSaved } from '@moebius/tensor';

import { squaredVariation } from './squared-variation.ts';
import type { Deviation } from './squared-variation.ts';
import { totalsLoss } from './totals-loss.ts';
import type { BalanceLoss, GateObservation } from '../balance-loss.ts';

/** Settings of {@link loadEstimateLoss}. */
export interface LoadEstimateOptions {
  /** All layers as one, or each by itself and their mean. Default `per-layer`. */
  readonly pooling?: 'pooled' | 'per-layer' | undefined;
  /** Standard deviation σ of the noise on the logits. Default 1/E (V-MoE). */
  readonly noise?: number | undefined;
  /** Whose estimate. Default `v-moe`. */
  readonly form?: 'v-moe' | 'shazeer' | undefined;
  /** Which variance. Default `population`. */
  readonly deviation?: Deviation | undefined;
}

/**
 * The load loss.
 *
 * @param options - noise, and whose estimate
 * @returns a loss named `load-estimate`; 0 at balance
 * @throws `configuration` when the noise is not above 0
 */
export function loadEstimateLoss(options: LoadEstimateOptions = {}): BalanceLoss {
  const { pooling, noise, form = 'v-moe', deviation = 'population' } = options;
  const settings = { form, noise };
  if (noise !== undefined && !(noise > 0)) {
    throw new MoebiusError({
      code: 'configuration',
      message: `loadEstimateLoss.noise: must be above 0, got ${noise} (give the deviation of the router's noise)`,
      details: { noise },
    });
  }
  return totalsLoss({
    name: 'load-estimate',
    pooling,
    amounts: (observation) =>
      mul<Tensor2D>(add(erf(div(estimate(observation, settings).u_TE, Math.SQRT2)), 1), 0.5),
    throughAmounts: (observation, damounts_TE) => {
      const seen = estimate(observation, settings);
      const density_TE = mul(exp(div(neg(square(seen.u_TE)), 2)), 1 / Math.sqrt(2 * Math.PI) / seen.noise);
      const dlogits_TE = mul<Tensor2D>(damounts_TE, density_TE);
      return { dlogits: sub<Tensor2D>(dlogits_TE, throughThreshold(dlogits_TE, seen)) };
    },
    evaluate: (totals) => squaredVariation(totals, deviation),
  });
}

interface Estimate {
  /** float32 `[T, E]`: how far above what it needs, in deviations. */
  readonly u_TE: Tensor2D;
  /** bool `[T, E]`: among the k best. */
  readonly chosen_TE: Tensor2D;
  /** Of the thresholds: k columns, or one more. */
  readonly saved: TopKSaved;
  readonly k: number;
  readonly form: 'v-moe' | 'shazeer';
  readonly noise: number;
}

/** Below every logit: an expert that all tokens take cannot lose. */
const beaten = -1e30;

function estimate(
  { logits, config }: GateObservation,
  { form, noise: given }: { readonly form: Estimate['form']; readonly noise: number | undefined },
): Estimate {
  const [tokens, experts] = logits.shape;
  const noise = given ?? 1 / experts;
  const k = Math.min(experts, Math.max(1, Math.round(config.topK)));
  const wanted = form === 'shazeer' ? Math.min(experts, k + 1) : k;
  const { value, saved } = topKForward(logits, wanted);
  const kth_T1 = slice(value.values, [0, k - 1], [tokens, 1]);
  const next_T1 =
    wanted > k ? slice(value.values, [0, k], [tokens, 1]) : (fill([tokens, 1], beaten) as Tensor2D);
  const chosen_TE = equal(maximum(logits, kth_T1), logits) as Tensor2D;
  const threshold_TE = form === 'shazeer' ? where(chosen_TE, next_T1, kth_T1) : kth_T1;
  return { u_TE: div<Tensor2D>(sub(logits, threshold_TE), noise), chosen_TE, saved, k, form, noise };
}

/** Each threshold is a logit of the same token: its gradient `[T, E]` goes to that one. */
function throughThreshold(du_TE: Tensor2D, { chosen_TE, saved, k, form }: Estimate): Tensor2D {
  const [tokens, width] = saved.ids.shape;
  const toChosen_T1 = sum<Tensor2D>(where(chosen_TE, du_TE, 0), 1, true);
  const total_T1 = sum<Tensor2D>(du_TE, 1, true);
  const columns = [zeros<Rank.R2>([tokens, k - 1])];
  if (form === 'v-moe') columns.push(total_T1);
  else columns.push(sub<Tensor2D>(total_T1, toChosen_T1), ...(width > k ? [toChosen_T1] : []));
  return topKBackward(saved, concat<Tensor2D>(columns, 1)).dscores;
}
