/**
 * @file SMoE-Dropout (Chen et al. 2023, 2303.01610): a random linear gate that is never trained, and a number of experts that grows from the
 * first step to the last; outside training a token has as many as it had at the end, or any other number ("self-slimmable").
 *
 * `z = x Rᵀ`, R fixed; `K(step)` linear from `startTopK` to `topK` over `steps`; weights are a softmax over the chosen.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `K` top-k.
 */
import { createRng, parseConfig, z } from '@moebius/core';
import { matMul, runOp, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { topKRows } from './choose.kernel.ts';
import { composeRouter } from './compose-router.ts';
import { topKOption } from './gate-family.ts';
import type { Scorer } from './stages.ts';
import { weighScores } from './weighs.ts';

/**
 * SMoE-Dropout by name, `frozen-random`. Options: `topK` at the end and outside training (default: the model's), `startTopK` at the first
 * step (default 1), `steps` until the end (default 1000), `seed` of the gate (default 0). Nothing is trained; the gate is the buffer
 * `frozen_weight` `[E, D]`, saved with a model.
 */
export function frozenRandomRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'frozen-random',
    create: (place, options) => {
      const { experts, layer, modelWidth } = place;
      const schema = z.strictObject({
        topK: topKOption(place),
        startTopK: z.int().min(1).max(experts).default(1),
        steps: z.int().min(1).default(1000),
        seed: z.int().default(0),
      });
      const { topK, startTopK, steps, seed } = parseConfig(schema, options, 'options');
      return composeRouter({
        name: 'frozen-random',
        experts,
        topK,
        trusted: true,
        scorer: frozenScorer(),
        score: 'softmax',
        choose: (input) => {
          const { phase, step = 0 } = input.options;
          const share = phase === 'train' ? Math.min(1, step / steps) : 1;
          return topKRows(input.logits, Math.round(startTopK + share * (topK - startTopK)), input);
        },
        weigh: weighScores({ renormalise: true }),
        buffers: {
          shapes: { frozen_weight: [experts, modelWidth] },
          initialise: (_buffer, length) => {
            const values = new Float32Array(length);
            const rng = createRng(seed).fork(layer);
            rng.fillNormal(values, { standardDeviation: 1 / Math.sqrt(modelWidth) });
            return values;
          },
        },
      });
    },
  });
}

/** A linear scorer whose matrix is a buffer: rows have a gradient, the matrix has none. */
function frozenScorer(): Scorer {
  return {
    parameterShapes: () => ({}),
    forward: (x, _parameters, { buffers }) =>
      runOp('frozenScorer', () => {
        const values = buffers?.['frozen_weight'] ?? new Float32Array(0);
        const weight = tensor2d(values.slice(), [values.length / x.shape[1], x.shape[1]]);
        return { value: matMul<Tensor2D>(x, weight, false, true), saved: weight };
      }),
    backward: (saved, dlogits) => ({ dx: matMul<Tensor2D>(dlogits, saved as Tensor2D), parameters: {} }),
  };
}
