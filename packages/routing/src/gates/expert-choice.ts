/**
 * @file Expert choice (Zhou et al. 2022, 2202.09368): every expert takes the `C = round(T·factor / E)` tokens that score best for it.
 *
 * `S = softmax(x Wᵀ)`, `y_t = Σ_{e that took t} S_te f_e(x_t)`. Loads are equal without a loss; a token has a variable number of experts,
 * possibly none. Not causal: whether a token is taken depends on the tokens it competes with.
 *
 * Letters: `T` tokens that compete, `E` experts, `C` tokens of an expert.
 */
import { parseConfig, z } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { composeRouter } from './compose-router.ts';
import { cellsOf, expertChoice } from './expert-choice.kernel.ts';
import { linearScorer } from './scorers.ts';
import type { Choose } from './stages.ts';
import { sequenceGroups } from './token-groups.ts';
import { weighScores } from './weighs.ts';

/** Settings of {@link chooseByExperts}. */
export interface ChooseByExpertsOptions {
  /** Tokens of an expert for tokens that compete and experts, at least 1. */
  readonly capacity: (tokens: number, experts: number) => number;
  /** Which tokens compete: all of a batch, or those of a sequence. */
  readonly scope: 'batch' | 'sequence';
  /** Most experts of a token. Default any. */
  readonly maxPerToken?: number;
}

/**
 * Every expert takes its best tokens by score; masked tokens never take a place.
 *
 * @param options - how many, among which
 */
export function chooseByExperts(options: ChooseByExpertsOptions): Choose {
  const { capacity, scope, maxPerToken } = options;
  return ({ tokens, experts, scores, options: context }) => {
    const { mask, sequences } = context;
    const own = {
      ...(mask === undefined ? {} : { mask }),
      ...(sequences === undefined || scope === 'batch' ? {} : { sequences }),
    };
    return expertChoice({
      scores: scores(),
      experts,
      cells: cellsOf(sequenceGroups(tokens, own)),
      capacity: (count) => Math.max(1, capacity(count, experts)),
      ...(maxPerToken === undefined ? {} : { maxPerToken }),
    });
  };
}

/**
 * Expert choice by name, `expert-choice`. Options: `capacityFactor` mean experts of a token (default: the model's experts per token),
 * `scope` `batch` (default) or `sequence`, `maxPerToken` the most experts of a token (default: no limit; with one, pairs are taken greedily by
 * score and an expert may stay below C). Trained: `weight` `[E, D]`.
 */
export function expertChoiceRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'expert-choice',
    create: ({ experts, topK }, options) => {
      const schema = z.strictObject({
        capacityFactor: z.number().gt(0).max(experts).default(topK),
        scope: z.enum(['batch', 'sequence']).default('batch'),
        maxPerToken: z.int().min(1).max(experts).default(experts),
      });
      const { capacityFactor, scope, maxPerToken } = parseConfig(schema, options, 'options');
      return composeRouter({
        name: 'expert-choice',
        experts,
        topK: capacityFactor,
        causal: false,
        trusted: true,
        scorer: linearScorer({ columns: experts }),
        score: 'softmax',
        choose: chooseByExperts({
          scope,
          maxPerToken,
          capacity: (tokens, count) => Math.round((tokens * capacityFactor) / count),
        }),
        weigh: weighScores(),
      });
    },
  });
}
