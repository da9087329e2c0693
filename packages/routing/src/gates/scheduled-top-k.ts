/**
 * @file A number of experts that changes while training: dense at first, sparse later, or the other way.
 *
 * ```
 * k(step) = round(from + (to - from)·min(1, step / steps))    I = top-k of x Wᵀ    w = softmax shares
 * ```
 * The k schedules of the survey (2407.06204). The step is a buffer, so a saved model has the k that it was trained to.
 */
import { z } from '@moebius/core';

import { topKRows } from './choose.kernel.ts';
import { defineGateFamily, scheduled, stepBuffer, topKOption, weighOptions } from './gate-family.ts';
import type { RouterFactory } from '../router-factory.ts';
import { linearScorer } from './scorers.ts';
import { weighScores } from './weighs.ts';

/** `scheduled-top-k`: `{ from, to, steps, renormalise, scale }`; from all experts to the layer's `topK` by default. */
export function scheduledTopKRouter(): RouterFactory {
  return defineGateFamily({
    name: 'scheduled-top-k',
    options: (place) =>
      z.strictObject({
        from: z.int().min(1).max(place.experts).prefault(place.experts),
        to: topKOption(place),
        steps: z.int().min(1).default(1000),
        ...weighOptions,
      }),
    stages: ({ experts }, { renormalise, scale, ...schedule }) => ({
      topK: schedule.to,
      scorer: linearScorer({ columns: experts }),
      score: 'softmax',
      choose: ({ logits, buffers, ...rows }) =>
        topKRows(logits, Math.round(scheduled(schedule, buffers['step']?.[0] ?? 0)), rows),
      weigh: weighScores({ renormalise, scale }),
      buffers: stepBuffer(),
    }),
  });
}
