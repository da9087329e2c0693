/**
 * @file AdaMoE's balance (2406.13233, §3.2): real experts are balanced one by one, null experts as a whole, because it does not matter which null a
 * token chooses. With n nulls behind E real experts and k choices of a token over both:
 *
 * ```
 * (E+n)/k · ( Σ_real f_e·P_e + n · f̄·P̄ )      f̄, P̄: mean share and mean probability of a null
 * ```
 * What nulls got is what real experts did not: k·T less the pairs of the plan, 1 less the scores of a row.
 */
import { MoebiusError } from '@moebius/core';

import { countPairs } from './count-pairs.kernel.ts';
import type { PoolingOptions } from './pooling.ts';
import { productLoss } from './product-loss.ts';
import type { CountedGroup } from './product-loss.ts';
import type { BalanceLoss } from '../balance-loss.ts';

/** Settings of {@link nullExpertLoss}. */
export interface NullExpertOptions extends PoolingOptions {
  /** Null experts `n`. */
  readonly nulls: number;
  /** Choices of a token over real and null experts `k`. */
  readonly choices: number;
}

/**
 * AdaMoE's loss, for a router whose softmax runs over real and null experts and shows the real ones.
 *
 * @param options - nulls and choices, and over which tokens
 * @returns a loss named `null-expert-balance`, worth 1 at balance
 * @throws `configuration` on a number that is none
 */
export function nullExpertLoss(options: NullExpertOptions): BalanceLoss {
  const { nulls, choices, ...pooling } = options;
  for (const [name, value] of Object.entries({ nulls, choices })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new MoebiusError({
      code: 'configuration',
      message: `nullExpertLoss.${name}: must be an integer of at least 1, got ${value} (use loadBalanceLoss without null experts)`,
      details: { name, value },
    });
  }
  const scaleOf = ({ experts, tokens }: CountedGroup): number => (experts + nulls) / choices / tokens;
  /** Mean pairs of a null. */
  const nullLoad = ({ load, tokens }: CountedGroup): number =>
    (choices * tokens - load.reduce((total, count) => total + count, 0)) / nulls;
  return productLoss({
    ...pooling,
    name: 'null-expert-balance',
    subject: 'nullExpertLoss',
    count: countPairs,
    slopes: (group) => {
      const shared = nullLoad(group);
      return group.load.map((count) => scaleOf(group) * (count - shared));
    },
    constant: (group) => scaleOf(group) * nullLoad(group),
    // Not their sum to 1: what a row lacks is the nulls'.
    amounts: ({ scores }) => scores,
    throughAmounts: (_, damounts_TE) => ({ dscores: damounts_TE }),
  });
}
