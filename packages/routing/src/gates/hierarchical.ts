/**
 * @file Two levels: a gate chooses groups, a gate inside each chosen group chooses experts, probabilities are multiplied.
 *
 * ```
 * p = softmax(x Uᵀ) over groups    q = softmax(x Wᵀ) inside each group    w_e = p_g · q_e, over the chosen
 * ```
 * Shazeer et al. 2017 (1701.06538). `renormalise` divides by the sum over all chosen experts. One group is a plain top-k.
 */
import { z } from '@moebius/core';

import { groupedRows } from './choose.kernel.ts';
import { defineGateFamily, groupsOption, usualGroups, weighOptions } from './gate-family.ts';
import { groupedScorer } from './grouped-scorer.ts';
import type { RouterFactory, RouterPlace } from '../router-factory.ts';
import { weighScores } from './weighs.ts';

/** `hierarchical`: `{ groups, keep, perGroup, renormalise, scale }`; `keep · perGroup` experts for a token. */
export function hierarchicalRouter(): RouterFactory {
  return defineGateFamily({
    name: 'hierarchical',
    options: (place) => {
      const usual = usualLevels(place);
      return z
        .strictObject({
          groups: groupsOption(place, usual.groups),
          keep: z.int().min(1).prefault(usual.keep),
          perGroup: z.int().min(1).prefault(usual.perGroup),
          ...weighOptions,
        })
        .superRefine(({ groups, keep, perGroup }, context) => {
          const add = (path: string, message: string): void =>
            context.addIssue({ code: 'custom', path: [path], message });
          if (keep > groups) add('keep', `must be at most groups ${groups}`);
          const size = place.experts / groups;
          if (Number.isInteger(size) && perGroup > size)
            add('perGroup', `must be at most ${size}, the experts of a group`);
        });
    },
    stages: ({ experts }, { groups, keep, perGroup, ...weighing }) => ({
      topK: keep * perGroup,
      scorer: groupedScorer({ columns: experts, groups, gated: true }),
      score: 'softmax',
      choose: ({ logits, ...rows }) => groupedRows(logits, { ...rows, groups, kept: keep, perGroup }),
      weigh: weighScores(weighing),
    }),
  });
}

/** As many groups as fit for one expert of each; where they do not, one group. */
function usualLevels({ experts, topK }: RouterPlace): { groups: number; keep: number; perGroup: number } {
  const groups = usualGroups(experts);
  return topK <= groups ? { groups, keep: topK, perGroup: 1 } : { groups, keep: 1, perGroup: topK };
}
