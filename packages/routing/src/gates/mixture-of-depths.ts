/**
 * @file Mixture-of-Depths (Raposo et al. 2024, 2404.02258): a layer takes a share of the tokens of each sequence; the others skip it in the
 * residual stream.
 *
 * `y_t = s_t f(x_t)` for the tokens with the largest `z_t = w · x_t`, `s = σ(z)` or `z`. With several experts (the paper's staged MoDE) a token's
 * `z_t` is that of its best expert, which runs it. Which tokens are the best is known only at the end of a sequence, so outside training a token
 * is taken when `z_t > 0` (`predict`). {@link chosenTokensLoss} teaches `σ(z)` to say which tokens training takes.
 *
 * Letters: `T` tokens of a sequence, `E` experts.
 */
import { parseConfig, z } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { composeRouter } from './compose-router.ts';
import { bestTokens, tokensAbove } from './best-tokens.kernel.ts';
import { cellsOf } from './expert-choice.kernel.ts';
import { linearScorer } from './scorers.ts';
import { sequenceGroups } from './token-groups.ts';
import { weighScores } from './weighs.ts';

const schema = z.strictObject({
  keep: z.number().gt(0).max(1).default(0.125),
  score: z.enum(['sigmoid', 'identity']).default('sigmoid'),
  predict: z.boolean().default(true),
});

/**
 * Mixture-of-Depths by name, `mixture-of-depths`; the paper's layers have one expert. Options: `keep` share of the tokens (default 0.125), `score`
 * `sigmoid` (default) or `identity` for weights, `predict` outside training by a threshold on each token alone (default true; else the best
 * `keep` of a sequence are taken there too, which is not causal). Trained: `weight` `[E, D]`.
 */
export function mixtureOfDepthsRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'mixture-of-depths',
    create: ({ experts }, options) => {
      const { keep, score, predict } = parseConfig(schema, options, 'options');
      return composeRouter({
        name: 'mixture-of-depths',
        experts,
        topK: keep,
        causal: predict,
        trusted: true,
        scorer: linearScorer({ columns: experts }),
        score,
        choose: (input) => {
          if (predict && input.options.phase !== 'train') return tokensAbove(input, 0);
          const cells = cellsOf(sequenceGroups(input.tokens, input.options));
          return bestTokens(input, { cells, capacity: (tokens) => Math.max(1, Math.round(tokens * keep)) });
        },
        weigh: weighScores(),
      });
    },
  });
}
