/**
 * @file MEO, merging experts into one (He et al. 2023, 2310.09832): the `K` best experts of a sequence, by a gate on the mean of its
 * rows, are averaged by their renormalised shares into the one expert that runs the sequence. The token-level attention that the paper
 * adds is not part of a router. Not causal: the mean is over the whole sequence.
 *
 * Letters: `E` experts, `G` sequences, `K` top-k.
 */
import { parseConfig, z } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { topKRows } from './choose.kernel.ts';
import { chosenTable } from './expert-choice.kernel.ts';
import { topKOption } from './gate-family.ts';
import { mergeRouter } from './merge-router.ts';
import { sequenceGroups } from './token-groups.ts';

/**
 * MEO by name, `meo`. Options: `topK` experts that are merged (default: the model's). Trained: `weight` `[E, D]`. In generation with a
 * cache a sequence is the tokens at hand.
 */
export function meoRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'meo',
    create: (place, options) => {
      const { experts } = place;
      const schema = z.strictObject({ topK: topKOption(place) });
      const { topK } = parseConfig(schema, options, 'options');
      return mergeRouter({
        name: 'meo',
        experts,
        topK,
        causal: false,
        normalise: false,
        groups: sequenceGroups,
        keep: (logits) => {
          const groups = logits.length / experts;
          const best = topKRows(logits, topK, { tokens: groups, width: experts });
          return chosenTable(best, experts);
        },
      });
    },
  });
}
