/**
 * @file Losses on how sure a token is of its experts: entropy, confidence, and the mutual information of tokens and experts.
 *
 * ```
 * entropy       mean_t H(p_t)                 ln E where nothing is preferred, 0 where one expert has all
 * confidence    1 - mean_t max_e p_te         1 - 1/E … 0
 * information   mean_t H(p_t) - H(mean_t p_t) 0 where tokens do not differ; -ln E where each is sure and experts are used alike
 * ```
 * The last is ModuleFormer's and Mod-Squad's -MI (2306.04640, 2212.08066): confident for each token, diverse overall.
 *
 * Letters: `T` tokens, `E` experts.
 */
import {
  add,
  argMax,
  concat,
  log,
  max,
  maximum,
  mul,
  neg,
  oneHot,
  reshape,
  slice,
  sub,
  sum,
} from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { meanLoss } from './mean-loss.ts';
import { probabilities, throughProbabilities } from './probabilities.ts';
import { totalsLoss } from './totals-loss.ts';
import type { BalanceLoss, GateObservation } from '../balance-loss.ts';

/** exp(-69): a probability below it adds less than float32 can hold, and its logarithm stays finite. */
const smallest = 1e-30;

/**
 * Mean entropy of a token's probabilities, in nats.
 *
 * @returns a loss named `entropy`; ln E at uniform, 0 at one-hot
 */
export function entropyLoss(): BalanceLoss {
  return meanLoss({
    name: 'entropy',
    rows: (observation) => entropies(probabilities(observation)),
    gradient: (observation, weight_T) =>
      throughProbabilities(
        observation,
        mul<Tensor2D>(entropySlopes(probabilities(observation)), column(weight_T)),
      ),
  });
}

/**
 * What a token's largest probability lacks to 1, on average.
 *
 * @returns a loss named `confidence`; 1 - 1/E at uniform, 0 at one-hot
 */
export function confidenceLoss(): BalanceLoss {
  return meanLoss({
    name: 'confidence',
    rows: (observation) => sub<Tensor1D>(1, max<Tensor1D>(probabilities(observation), 1)),
    gradient: (observation, weight_T) => {
      const probability_TE = probabilities(observation);
      const best_TE = oneHot(argMax<Tensor1D>(probability_TE, 1), probability_TE.shape[1]);
      return throughProbabilities(observation, mul<Tensor2D>(neg(best_TE), column(weight_T)));
    },
  });
}

/** Settings of {@link mutualInformationLoss}. */
export interface MutualInformationOptions {
  /** All layers as one, or each by itself and their mean. Default `per-layer`. */
  readonly pooling?: 'pooled' | 'per-layer' | undefined;
  /** Weight of the tokens' mean entropy. Default 1. */
  readonly certainty?: number | undefined;
  /** Weight of the entropy of the mean. Default 1. */
  readonly diversity?: number | undefined;
}

/**
 * Negative mutual information of tokens and experts.
 *
 * @param options - weights of its two entropies
 * @returns a loss named `mutual-information`; 0 at uniform, -ln E at its minimum
 */
export function mutualInformationLoss(options: MutualInformationOptions = {}): BalanceLoss {
  const { pooling, certainty = 1, diversity = 1 } = options;
  return totalsLoss({
    name: 'mutual-information',
    pooling,
    // Columns: the probabilities, and a token's entropy.
    amounts: (observation) => {
      const probability_TE = probabilities(observation);
      return concat<Tensor2D>([probability_TE, column(entropies(probability_TE))], 1);
    },
    throughAmounts: (observation, damounts_TX) => throughBoth(observation, damounts_TX),
    evaluate(totals, tokens) {
      const mean_E = totals.subarray(0, -1).map((total) => total / tokens);
      const entropy = (totals.at(-1) ?? 0) / tokens;
      const ofMean = mean_E.reduce((sumOfAll, p) => sumOfAll - p * Math.log(Math.max(p, smallest)), 0);
      const slopes = Float64Array.from(totals, () => certainty / tokens);
      for (const [e, p] of mean_E.entries())
        slopes[e] = (diversity * (Math.log(Math.max(p, smallest)) + 1)) / tokens;
      return { value: certainty * entropy - diversity * ofMean, slopes };
    },
  });
}

function throughBoth(
  observation: GateObservation,
  damounts_TX: Tensor2D,
): ReturnType<typeof throughProbabilities> {
  const [tokens, width] = damounts_TX.shape;
  const probability_TE = probabilities(observation);
  const dentropy_T1 = slice(damounts_TX, [0, width - 1], [tokens, 1]);
  const dprobability_TE = slice(damounts_TX, [0, 0], [tokens, width - 1]);
  return throughProbabilities(
    observation,
    add<Tensor2D>(dprobability_TE, mul(entropySlopes(probability_TE), dentropy_T1)),
  );
}

/** float32 `[T, E]` → `[T]`, nats. */
function entropies(probability_TE: Tensor2D): Tensor1D {
  return neg<Tensor1D>(sum<Tensor1D>(mul(probability_TE, logarithms(probability_TE)), 1));
}

/** -(ln p + 1). */
function entropySlopes(probability_TE: Tensor2D): Tensor2D {
  return neg<Tensor2D>(add<Tensor2D>(logarithms(probability_TE), 1));
}

/** float32 `[T, E]`. */
function logarithms(probability_TE: Tensor2D): Tensor2D {
  return log<Tensor2D>(maximum<Tensor2D>(probability_TE, smallest));
}

function column(values_T: Tensor1D): Tensor2D {
  return reshape(values_T, [values_T.size, 1]) as Tensor2D;
}
