/**
 * @file Expert prototyping: k disjoint groups of experts, the best of each, results added.
 *
 * ```
 * q = softmax(x Wᵀ) inside each of k groups    I = argmax of each    w_e = q_e
 * ```
 * M6-T (2105.15082). `scores` are q / k, so that rows sum to 1. One group is Switch.
 */
import { z } from '@moebius/core';

import { groupedRows } from './choose.kernel.ts';
import { defineGateFamily, groupsOption } from './gate-family.ts';
import { groupedScorer } from './grouped-scorer.ts';
import type { RouterFactory } from '../router-factory.ts';
import { weighScores } from './weighs.ts';

/** `prototypes`: `{ groups, perGroup, scale }`; groups default to the layer's `topK`. */
export function prototypesRouter(): RouterFactory {
  return defineGateFamily({
    name: 'prototypes',
    options: (place) =>
      z
        .strictObject({
          groups: groupsOption(place, place.topK),
          perGroup: z.int().min(1).default(1),
          scale: z.number().default(1),
        })
        .superRefine(({ groups, perGroup }, context) => {
          const size = place.experts / groups;
          if (!Number.isInteger(size) || perGroup <= size) return;
          const message = `must be at most ${size}, the experts of a group`;
          context.addIssue({ code: 'custom', path: ['perGroup'], message });
        }),
    stages: ({ experts }, { groups, perGroup, scale }) => ({
      topK: groups * perGroup,
      scorer: groupedScorer({ columns: experts, groups, gated: false }),
      score: 'softmax',
      choose: ({ logits, ...rows }) => groupedRows(logits, { ...rows, groups, kept: groups, perGroup }),
      weigh: weighScores({ scale: scale * groups }),
    }),
  });
}
