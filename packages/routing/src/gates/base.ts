/**
 * @file BASE layers (Lewis et al. 2021, 2103.16716): in training the tokens of a batch are assigned to experts so that all experts get equally
 * many and the sum of `x_t · c_e` is the largest there is; outside training every token takes its best expert.
 *
 * `y_t = α f_e(x_t)`, `α = σ(x_t · c_e)`; the residual stream adds `x_t`. The assignment has no gradient: centroids learn through α. Exact, so
 * loads are equal, or differ by one where the experts do not divide the tokens.
 *
 * Letters: `T` tokens, `D` model width, `E` experts.
 */
import { parseConfig, z } from '@moebius/core';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { balancedAssignment } from './balanced-assignment.kernel.ts';
import { topKRows } from './choose.kernel.ts';
import { composeRouter } from './compose-router.ts';
import { orthogonalRows } from './orthogonal-rows.kernel.ts';
import { oneEach, routedRows } from './routed-rows.kernel.ts';
import { linearScorer } from './scorers.ts';
import type { Choice, Choose, ChooseInput } from './stages.ts';
import { weighScores } from './weighs.ts';

/**
 * One expert for every token: balanced over the batch in training, the best one outside it. Masked tokens get none and take no place.
 */
export function chooseBalanced(): Choose {
  return (input) =>
    input.options.phase === 'train' ? assignBalanced(input) : topKRows(input.logits, 1, input);
}

function assignBalanced(input: ChooseInput): Choice {
  const { rows } = routedRows(input);
  const tokenOffsets = oneEach(input.tokens, input.mask);
  return { ids: balancedAssignment(rows, input.experts), tokenOffsets };
}

/**
 * BASE by name, `base`. Options: `gain` of the centroids' orthogonal beginning (default 0.1). Trained: `weight` `[E, D]`, the centroids.
 */
export function baseRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'base',
    create: ({ experts }, options) => {
      const { gain } = parseConfig(
        z.strictObject({ gain: z.number().gt(0).default(0.1) }),
        options,
        'options',
      );
      return composeRouter({
        name: 'base',
        experts,
        topK: 1,
        trusted: true,
        scorer: {
          ...linearScorer({ columns: experts }),
          initialise: (_parameter, { shape: [rows = 1, columns = 1], rng }) =>
            orthogonalRows(() => rng.normal(), { rows, columns, gain }),
        },
        score: 'sigmoid',
        choose: chooseBalanced(),
        weigh: weighScores(),
      });
    },
  });
}
