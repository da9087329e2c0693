/**
 * @file The importance loss: CV² of what each expert was given in all, Σ_t G_te (Shazeer et al. 2017, 1701.06538, eq. 6-7; V-MoE, 2106.05974, appendix A).
 *
 * Letters: `T` tokens, `E` experts.
 */
import { div, mul, sub, sum, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { probabilities, rowSums, throughProbabilities } from './probabilities.ts';
import { squaredVariation } from './squared-variation.ts';
import type { Deviation } from './squared-variation.ts';
import { totalsLoss } from './totals-loss.ts';
import type { BalanceLoss, GateObservation } from '../balance-loss.ts';
import { chosenExperts } from '../select-experts.kernel.ts';

/** Settings of {@link importanceLoss}. */
export interface ImportanceOptions {
  /** All layers as one, or each by itself and their mean. Default `per-layer`. */
  readonly pooling?: 'pooled' | 'per-layer' | undefined;
  /** Which variance. Default `population` (V-MoE); `sample` divides by E - 1. */
  readonly deviation?: Deviation | undefined;
  /**
   * What an expert is given by a token: its probability (default, V-MoE), that probability only where it was chosen, or the same over the chosen ones' sum
   * (Shazeer, whose softmax runs over the k best).
   */
  readonly of?: 'all' | 'chosen' | 'renormalised' | undefined;
}

/**
 * The importance loss.
 *
 * @param options - what is summed, and which variance
 * @returns a loss named `importance`; 0 at balance, E - 1 at collapse (`population`)
 */
export function importanceLoss(options: ImportanceOptions = {}): BalanceLoss {
  const { pooling, deviation = 'population', of = 'all' } = options;
  return totalsLoss({
    name: 'importance',
    pooling,
    amounts: (observation) => amountsOf(observation, of),
    throughAmounts: (observation, damounts_TE) =>
      throughProbabilities(observation, throughChoice(observation, damounts_TE, of)),
    evaluate: (totals) => squaredVariation(totals, deviation),
  });
}

function amountsOf(observation: GateObservation, of: ImportanceOptions['of']): Tensor2D {
  const all_TE = probabilities(observation);
  if (of === 'all') return all_TE;
  const kept_TE = mul<Tensor2D>(all_TE, chosenMask(observation));
  return of === 'chosen' ? kept_TE : div<Tensor2D>(kept_TE, rowSums(kept_TE));
}

function throughChoice(
  observation: GateObservation,
  damounts_TE: Tensor2D,
  of: ImportanceOptions['of'],
): Tensor2D {
  if (of === 'all') return damounts_TE;
  const chosen_TE = chosenMask(observation);
  if (of === 'chosen') return mul<Tensor2D>(damounts_TE, chosen_TE);
  const kept_TE = mul<Tensor2D>(probabilities(observation), chosen_TE);
  const sum_T1 = rowSums(kept_TE);
  const along_T1 = sum<Tensor2D>(mul(damounts_TE, div(kept_TE, sum_T1)), 1, true);
  return mul<Tensor2D>(div(sub(damounts_TE, along_T1), sum_T1), chosen_TE);
}

/** float32 `[T, E]`, 1 where a token has a pair. */
function chosenMask({ plan }: GateObservation): Tensor2D {
  return tensor2d(Float32Array.from(chosenExperts(plan)), [plan.tokens, plan.experts]);
}
