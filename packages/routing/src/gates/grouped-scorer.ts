/**
 * @file Logits of a gate with two levels, written so that one softmax over all experts gives both.
 *
 * ```
 * z_e = [u_g +] v_e - ln Σ exp v over the group g of e        softmax(z)_e = p_g · p_(e given g)
 * ```
 * Without group logits u every group has the same share. With them the softmax of z is that of u times that inside each group.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `G` groups.
 */
import { add, linear, logSumExp, reshape, sub } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { scorerOf } from './scorers.ts';
import type { Scorer } from './stages.ts';

/** Settings of {@link groupedScorer}. */
export interface GroupedScorerOptions {
  /** `E`. */
  readonly columns: number;
  /** `G`; divides E. */
  readonly groups: number;
  /** Whether groups have logits of their own, from `group_weight` `[G, D]`. */
  readonly gated: boolean;
}

/**
 * Logits normalised inside each group. Parameters `weight` `[E, D]` and, when gated, `group_weight` `[G, D]`.
 *
 * @param options - sizes
 */
export function groupedScorer({ columns, groups, gated }: GroupedScorerOptions): Scorer {
  return scorerOf({
    name: 'groupedScorer',
    parameterShapes: (modelWidth) => ({
      weight: [columns, modelWidth],
      ...(gated ? { group_weight: [groups, modelWidth] } : {}),
    }),
    logits: (x, { weight, group_weight: groupWeight }) => {
      const tokens = x.shape[0];
      const inner_TGe = reshape(linear(x, weight as Tensor2D), [tokens, groups, columns / groups]);
      const shares_TGe = sub(inner_TGe, logSumExp(inner_TGe, 2, true));
      const both =
        groupWeight === undefined
          ? shares_TGe
          : add(shares_TGe, reshape(linear(x, groupWeight as Tensor2D), [tokens, groups, 1]));
      return reshape(both, [tokens, columns]) as Tensor2D;
    },
  });
}
