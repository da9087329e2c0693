/**
 * @file Load-balance losses: Switch's E·Σ f·P in the forms that published trainers use.
 *
 * `f_e` is the share of tokens that chose expert e (a count, no gradient), `P_e` the mean probability of expert e; `pooling` says over which
 * tokens. `f` sums to k, so perfect balance is worth k, or 1 with `divideByTopK` (1 is then the minimum at balance, as in Switch). That is also
 * DeepSeekMoE's expert-level loss (`divideByTopK`, per layer) and DeepSeek-V3's sequence-wise one (`divideByTopK`, per sequence).
 *
 * GShard (2006.16668, §2.2) counts the first choice only: E²·mean_e(f1·P), worth 1 at balance for every k.
 *
 * Letters: `E` experts.
 */
import { countFirstChoices, countPairs } from './count-pairs.kernel.ts';
import type { PoolingOptions } from './pooling.ts';
import { productLoss } from './product-loss.ts';
import type { BalanceLoss } from '../balance-loss.ts';

/** Settings of {@link loadBalanceLoss}. */
export interface LoadBalanceOptions extends PoolingOptions {
  /** Where the product of load and probability is formed. */
  readonly pooling: 'pooled' | 'per-layer' | 'per-sequence';
  /** Divide by k, so that balance is worth 1 for every k. Default false (Hugging Face). */
  readonly divideByTopK?: boolean | undefined;
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
  const { divideByTopK = false, ...pooling } = options;
  return productLoss({
    ...pooling,
    name: 'load-balance',
    subject: 'loadBalanceLoss',
    count: countPairs,
    slopes: ({ load, tokens, experts, topK }) =>
      load.map((count) => (experts * count) / tokens / (divideByTopK ? topK : 1)),
  });
}

/**
 * GShard's loss: the load-balance loss with only each token's best expert counted.
 *
 * @param options - over which tokens
 * @returns a loss named `first-choice-balance`, worth 1 at balance
 * @throws `configuration` when `per-sequence` has no sequence length
 */
export function firstChoiceBalanceLoss(options: PoolingOptions = {}): BalanceLoss {
  return productLoss({
    ...options,
    name: 'first-choice-balance',
    subject: 'firstChoiceBalanceLoss',
    count: countFirstChoices,
    slopes: ({ load, tokens, experts }) => load.map((count) => (experts * count) / tokens),
  });
}
