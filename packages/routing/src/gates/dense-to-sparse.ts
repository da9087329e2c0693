/**
 * @file A dense gate that becomes sparse: the temperature of the softmax falls while training, and experts below a share drop out.
 *
 * ```
 * τ(step) = from + (to - from)·min(1, step / steps)    p = softmax((x Wᵀ + Gumbel) / τ)    I = { e : p_e > threshold }, at least the best
 * ```
 * EvoMoE (2112.14397). Gumbel noise is drawn while training only. The step is a buffer.
 */
import { z } from '@moebius/core';
import { div } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { RouterOptions } from '../define-router.ts';
import { aboveRows } from './choose.kernel.ts';
import { defineGateFamily, scheduled, stepBuffer } from './gate-family.ts';
import { gumbelNoise } from './noises.ts';
import type { RouterFactory } from '../router-factory.ts';
import { linearScorer } from './scorers.ts';
import type { Scorer } from './stages.ts';
import { weighScores } from './weighs.ts';

/** `dense-to-sparse`: `{ from, to, steps, threshold, gumbel, topK, renormalise, scale }`. */
export function denseToSparseRouter(): RouterFactory {
  return defineGateFamily({
    name: 'dense-to-sparse',
    options: ({ experts, topK }) =>
      z.strictObject({
        from: z.number().min(1e-3).max(1e3).default(2),
        to: z.number().min(1e-3).max(1e3).default(0.3),
        steps: z.int().min(1).default(1000),
        threshold: z
          .number()
          .min(0)
          .max(1)
          .prefault(1 / (2 * experts)),
        gumbel: z.boolean().default(true),
        topK: z.number().min(1e-6).max(experts).prefault(topK),
        renormalise: z.boolean().default(false),
        scale: z.number().default(1),
      }),
    stages: ({ experts }, { from, to, steps, threshold, gumbel, topK, ...weighing }) => ({
      topK,
      scorer: tempered(linearScorer({ columns: experts }), ({ buffers }) =>
        scheduled({ from, to, steps }, buffers?.['step']?.[0] ?? 0),
      ),
      ...(gumbel ? { noise: gumbelNoise(1) } : {}),
      score: 'softmax',
      choose: ({ scores, ...rows }) => aboveRows(scores(), { ...rows, bound: threshold, atLeastOne: true }),
      weigh: weighScores(weighing),
      buffers: stepBuffer(),
    }),
  });
}

interface TemperedSaved {
  readonly inner: unknown;
  readonly temperature: number;
}

/** Logits divided by a number that the call decides. */
function tempered(inner: Scorer, temperatureOf: (options: RouterOptions) => number): Scorer {
  return {
    ...inner,
    forward: (x, parameters, options) => {
      const temperature = temperatureOf(options);
      const { value, saved } = inner.forward(x, parameters, options);
      return { value: div<Tensor2D>(value, temperature), saved: { inner: saved, temperature } };
    },
    backward: (saved, dlogits) => {
      const { inner: own, temperature } = saved as TemperedSaved;
      return inner.backward(own, div<Tensor2D>(dlogits, temperature));
    },
  };
}
