/**
 * @file Mixture-of-Depths (Raposo et al. 2024, 2404.02258): expert choice with one expert, the layer's feed-forward, which takes a share of
 * the tokens of each sequence; the others skip it in the residual stream.
 *
 * `y_t = s_t f(x_t)` for the tokens with the largest `z_t = w · x_t`, `s = σ(z)` or `z`. Which tokens are the best is known only at the end of
 * a sequence, so outside training a token is taken when `z_t > 0` (`predict`). {@link chosenTokensLoss} teaches `σ(z)` to say which tokens
 * training takes.
 *
 * Letters: `T` tokens of a sequence.
 */
import { MoebiusError, parseConfig, z } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { composeRouter } from './compose-router.ts';
import { chooseByExperts } from './expert-choice.ts';
import { chosenRows } from './expert-choice.kernel.ts';
import { linearScorer } from './scorers.ts';
import type { Choose, ChooseInput } from './stages.ts';
import { weighScores } from './weighs.ts';

const schema = z.strictObject({
  keep: z.number().gt(0).max(1).default(0.125),
  score: z.enum(['sigmoid', 'identity']).default('sigmoid'),
  predict: z.boolean().default(true),
});

/**
 * Mixture-of-Depths by name, `mixture-of-depths`, for layers of one expert. Options: `keep` share of the tokens (default 0.125), `score`
 * `sigmoid` (default) or `identity` for weights, `predict` outside training by a threshold on each token alone (default true; else the best
 * `keep` of a sequence are taken there too, which is not causal). Trained: `weight` `[1, D]`.
 */
export const mixtureOfDepthsRouter: RouterFactory = defineRouterFactory({
  name: 'mixture-of-depths',
  create: ({ experts }, options) => {
    const { keep, score, predict } = parseConfig(schema, options, 'router "mixture-of-depths"');
    if (experts !== 1) throw severalExperts(experts);
    const best = chooseByExperts({ scope: 'sequence', capacity: (tokens) => Math.round(tokens * keep) });
    return composeRouter({
      name: 'mixture-of-depths',
      experts,
      topK: keep,
      causal: predict,
      trusted: true,
      scorer: linearScorer({ columns: 1 }),
      score,
      choose: predict ? (input) => (input.options.phase === 'train' ? best : abovePrediction)(input) : best,
      weigh: weighScores(),
    });
  },
});

const abovePrediction: Choose = ({ logits, mask, tokens }: ChooseInput) =>
  chosenRows(
    Uint8Array.from({ length: tokens }, (_, t) => (mask?.[t] !== 0 && (logits[t] ?? 0) > 0 ? 1 : 0)),
    logits,
    1,
  );

function severalExperts(experts: number): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: `router "mixture-of-depths": must have 1 expert, got ${experts} (set num_experts to 1; to let experts of a layer choose tokens, use "expert-choice")`,
    details: { experts },
  });
}
