/**
 * @file Weights of the pairs that a capacity policy kept, as an operation pair: gathered on the device, with gradient.
 *
 * With s the scores `[T, E]`, A the original top-k of a token, F what it kept, w the router's own weights over A:
 *
 * ```
 * router   w over A;  s · Σ_A w / (Σ_A s + ε) for an added pair
 * none     s · scale
 * primary  s / (Σ_A s + ε) · scale
 * kept     s / (Σ_F s + ε) · scale
 * ```
 *
 * Letters: `T` tokens, `E` experts, `N` pairs that stay, `A` pairs of the dropless plan.
 */
import {
  add,
  cloneTensor,
  div,
  gatherScoresBackward,
  gatherScoresForward,
  mul,
  neg,
  runOp,
  sub,
  sum,
  tensor2d,
  where,
} from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import type { CapacityWeights } from './define-capacity-policy.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { chosenExperts } from '../select-experts.kernel.ts';

/** Plans before and after, and the formula. */
export interface WeighKeptOptions {
  /** Which formula. */
  readonly weights: CapacityWeights;
  /** The dropless plan. */
  readonly primary: DispatchPlan;
  /** The plan after the policy. */
  readonly plan: DispatchPlan;
}

/** What {@link weighKeptBackward} needs; free it with `disposeTree`. */
export interface WeighKeptSaved {
  /** Plans and formula. */
  readonly options: WeighKeptOptions;
  /** float32 `[T, E]`; null where the gradient does not need them. */
  readonly scores: Tensor2D | null;
  /** bool `[T, E]`, what the divisor sums over; null without one. */
  readonly chosen: Tensor2D | null;
  /** float32 `[T, 1]`; null without one. */
  readonly divisor: Tensor2D | null;
  /** float32 `[T, 1]`, Σ_A w over the divisor, for added pairs of `router`; else null. */
  readonly rate: Tensor2D | null;
}

/** Gradients of {@link weighKeptForward}; absent means zero. Caller owns them. */
export interface WeighKeptGradients {
  /** float32 `[A]`, of the router's own weights. */
  readonly dweights?: Tensor1D;
  /** float32 `[T, E]`. */
  readonly dscores?: Tensor2D;
}

/**
 * Weights of the kept pairs.
 *
 * @param weights_A - float32 `[A]`, the router's own, in the order of the dropless plan; borrowed
 * @param scores_TE - float32 `[T, E]`, borrowed
 * @param options - plans and formula
 * @returns float32 `[N]` in plan order, and saved; caller owns both
 */
export function weighKeptForward(
  weights_A: Tensor1D,
  scores_TE: Tensor2D,
  options: WeighKeptOptions,
): { value: Tensor1D; saved: WeighKeptSaved } {
  const { weights, plan, primary } = options;
  const empty = { options, scores: null, chosen: null, divisor: null, rate: null };
  return runOp('capacity.weights', () => {
    if (weights.norm === 'none') {
      const picked_N = gatherScoresForward(scores_TE, plan).value;
      return { value: scaled(picked_N, weights.scale), saved: empty };
    }
    if (weights.norm === 'router') {
      const own_TE = gatherScoresBackward({ plan: primary }, weights_A).dscores;
      if (plan.primary === undefined) return { value: gatherScoresForward(own_TE, plan).value, saved: empty };
      const { chosen, divisor } = sumChosen(scores_TE, primary, weights.epsilon);
      const rate_T1 = div<Tensor2D>(sum<Tensor2D>(own_TE, 1, true), divisor);
      const all_TE = where<Tensor2D>(chosen, own_TE, mul<Tensor2D>(rate_T1, scores_TE));
      const saved = { options, scores: cloneTensor(scores_TE), chosen, divisor, rate: rate_T1 };
      return { value: gatherScoresForward(all_TE, plan).value, saved };
    }
    const { chosen, divisor } = sumChosen(
      scores_TE,
      weights.norm === 'primary' ? primary : plan,
      weights.epsilon,
    );
    const picked_N = gatherScoresForward(div<Tensor2D>(scores_TE, divisor), plan).value;
    return {
      value: scaled(picked_N, weights.scale),
      saved: { options, scores: cloneTensor(scores_TE), chosen, divisor, rate: null },
    };
  });
}

/**
 * Gradients of {@link weighKeptForward}.
 *
 * @param saved - borrowed
 * @param dweights_N - float32 `[N]`, borrowed
 * @returns fresh gradients; caller owns
 */
export function weighKeptBackward(saved: WeighKeptSaved, dweights_N: Tensor1D): WeighKeptGradients {
  const { weights, plan, primary } = saved.options;
  return runOp('capacity.weights.backward', () => {
    const placed_TE = gatherScoresBackward({ plan }, dweights_N).dscores;
    if (weights.norm === 'router') {
      if (saved.rate === null) return { dweights: gatherScoresForward(placed_TE, primary).value };
      return addedGradient(saved, placed_TE);
    }
    const dpairs_TE = weights.scale === 1 ? placed_TE : mul<Tensor2D>(placed_TE, weights.scale);
    const { scores, chosen, divisor } = saved;
    if (scores === null || chosen === null || divisor === null) return { dscores: dpairs_TE };
    const along_T1 = div<Tensor2D>(sum<Tensor2D>(mul(dpairs_TE, scores), 1, true), divisor);
    const common_TE = where<Tensor2D>(chosen, along_T1, 0);
    return { dscores: div<Tensor2D>(sub(dpairs_TE, common_TE), divisor) };
  });
}

/** Back through the rate Σ_A w / (Σ_A s + ε) of added pairs, and through primary weights as they are. */
function addedGradient(saved: WeighKeptSaved, placed_TE: Tensor2D): WeighKeptGradients {
  const { scores, chosen, divisor, rate, options } = saved;
  if (scores === null || chosen === null || divisor === null || rate === null) return {};
  const dadded_TE = where<Tensor2D>(chosen, 0, placed_TE);
  const drate_T1 = div<Tensor2D>(sum<Tensor2D>(mul(dadded_TE, scores), 1, true), divisor);
  const down_TE = add<Tensor2D>(where<Tensor2D>(chosen, placed_TE, 0), drate_T1);
  return {
    dweights: gatherScoresForward(down_TE, options.primary).value,
    dscores: where<Tensor2D>(chosen, neg(mul<Tensor2D>(drate_T1, rate)), mul<Tensor2D>(dadded_TE, rate)),
  };
}

/** The mask of a plan's pairs `[T, E]` and the sum of scores under it plus ε `[T, 1]`; tokens without a pair sum over all, so never nothing. */
function sumChosen(
  scores_TE: Tensor2D,
  plan: DispatchPlan,
  epsilon: number,
): { chosen: Tensor2D; divisor: Tensor2D } {
  const chosen = tensor2d(chosenExperts(plan), [plan.tokens, plan.experts], 'bool');
  const sum_T1 = sum<Tensor2D>(where<Tensor2D>(chosen, scores_TE, 0), 1, true);
  return { chosen, divisor: epsilon === 0 ? sum_T1 : add<Tensor2D>(sum_T1, epsilon) };
}

function scaled(values_N: Tensor1D, scale: number): Tensor1D {
  return scale === 1 ? values_N : mul<Tensor1D>(values_N, scale);
}
