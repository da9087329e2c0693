/**
 * @file Weights of routed pairs from scores, as an operation pair: gathered by the plan's `source`, perhaps after the scores are
 * renormalised over some experts of the token. No gradient passes through the choice.
 *
 * Letters: `T` tokens, `E` experts, `N` routed pairs.
 */
import {
  add,
  div,
  gatherScoresBackward,
  gatherScoresForward,
  mul,
  softmax,
  sub,
  sum,
  tensor2d,
  where,
} from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import type { DispatchPlan } from './dispatch-plan.ts';
import { softmaxBackward } from './score-function.ts';
import { chosenExperts } from './select-experts.kernel.ts';

/** How scores become weights. */
export interface WeighSettings {
  /** A softmax over the logits of the chosen experts takes the place of the scores. */
  readonly softmaxChosen: boolean;
  /** Divide by the sum over the chosen experts. */
  readonly renormalise: boolean;
  /** Added to that sum. */
  readonly epsilon: number;
  /** Multiplies the weights last. */
  readonly scale: number;
}

/** What weights are made from. Borrowed. */
export interface WeighSource {
  /** float32 `[T, E]`. */
  readonly logits: Tensor2D;
  /** float32 `[T, E]`. */
  readonly scores: Tensor2D;
  /** Whose pairs get weights. */
  readonly plan: DispatchPlan;
  /** Uint8Array `[T, E]`: experts that softmax and sum run over, at least one a row. Absent: those of the plan. */
  readonly among?: Uint8Array;
}

/** What {@link weighBackward} needs; free it with `disposeTree`. */
export interface WeighSaved {
  /** As given. */
  readonly settings: WeighSettings;
  /** As given. */
  readonly plan: DispatchPlan;
  /** bool `[T, E]`, the experts of the sum; null when the weights are plain scores. */
  readonly chosen: Tensor2D | null;
  /** float32 `[T, E]`, scores over these before renormalisation; null when the weights are plain scores. */
  readonly kept: Tensor2D | null;
  /** float32 `[T, 1]`, divisor of renormalisation; null without. */
  readonly divisor: Tensor2D | null;
}

/** exp(-1e38 - anything) is 0 in float32, and 0 times it is not NaN as it would be for -∞. */
const EXCLUDED = -1e38;

/**
 * Weights of the pairs of a plan.
 *
 * @param source - scores `[T, E]` and plan
 * @param settings - the rule
 * @returns float32 `[N]` in plan order and what backward needs; caller owns both. Call it in a scope.
 */
export function weighForward(
  source: WeighSource,
  settings: WeighSettings,
): { readonly value: Tensor1D; readonly saved: WeighSaved } {
  const { plan } = source;
  const { weights_TE, ...kept } = weighAll(source, settings);
  const { value: picked_N } = gatherScoresForward(weights_TE, plan);
  const value = settings.scale === 1 ? picked_N : mul<Tensor1D>(picked_N, settings.scale);
  return { value, saved: { settings, plan, ...kept } };
}

/** float32 `[T, E]`, right where an expert is chosen, before `scale`. */
function weighAll(
  source: WeighSource,
  settings: WeighSettings,
): { weights_TE: Tensor2D } & Pick<WeighSaved, 'chosen' | 'kept' | 'divisor'> {
  const { logits, scores, plan, among } = source;
  const { softmaxChosen, renormalise, epsilon } = settings;
  if (!softmaxChosen && !renormalise) return { weights_TE: scores, chosen: null, kept: null, divisor: null };
  const chosen = tensor2d(among ?? chosenExperts(plan), [plan.tokens, plan.experts], 'bool');
  const kept = softmaxChosen
    ? softmax(where<Tensor2D>(chosen, logits, EXCLUDED))
    : where<Tensor2D>(chosen, scores, 0);
  if (!renormalise) return { weights_TE: kept, chosen, kept, divisor: null };
  const sum_T1 = sum<Tensor2D>(kept, 1, true);
  const divisor = epsilon === 0 ? sum_T1 : add<Tensor2D>(sum_T1, epsilon);
  return { weights_TE: div<Tensor2D>(kept, divisor), chosen, kept, divisor };
}

/**
 * Gradients of {@link weighForward}: to the scores over all experts, or to the logits when a softmax over the chosen took their place.
 *
 * @param saved - borrowed
 * @param dweights - float32 `[N]`, borrowed
 * @returns float32 `[T, E]`. Call it in a scope.
 */
export function weighBackward(
  saved: WeighSaved,
  dweights: Tensor1D,
): { readonly dscores?: Tensor2D; readonly dlogits?: Tensor2D } {
  const { settings, plan, chosen, kept, divisor } = saved;
  const scaled_N = settings.scale === 1 ? dweights : mul<Tensor1D>(dweights, settings.scale);
  const dweights_TE = gatherScoresBackward({ plan }, scaled_N).dscores;
  if (chosen === null || kept === null) return { dscores: dweights_TE };
  let dkept_TE = dweights_TE;
  if (divisor !== null) {
    const weights_TE = div<Tensor2D>(kept, divisor);
    const along_T1 = sum<Tensor2D>(mul(dweights_TE, weights_TE), 1, true);
    dkept_TE = div<Tensor2D>(sub(dweights_TE, along_T1), divisor);
  }
  if (settings.softmaxChosen) return { dlogits: softmaxBackward(kept, dkept_TE) };
  return { dscores: where<Tensor2D>(chosen, dkept_TE, 0) };
}
