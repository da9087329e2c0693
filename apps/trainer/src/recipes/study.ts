/**
 * @file `study`: the model on which the papers' effects are measured. Its balance loss is weak on purpose: the loads
 * are skewed, so that capacity, partition and offloading have something to show.
 */
import { defineRecipe, smallModel } from './recipe.ts';
import type { Recipe } from './recipe.ts';

/** At most eight minutes; the same configuration is trained once and then found in the cache. */
export const study: Recipe = defineRecipe({
  name: 'study',
  summary:
    'a model with skewed expert loads for experiments, at most 8 minutes; trained once per configuration',
  prompt: 'The people of the United States',
  config: () => ({
    name: 'study',
    model: smallModel({
      layers: 4,
      width: 192,
      experts: 16,
      topK: 2,
      expertWidth: 128,
      heads: 6,
      kvHeads: 2,
    }),
    data: { training: { corpus: 'sotu' }, heldOutFraction: 0.03 },
    tokenizer: { vocabularySize: 2048 },
    batch: { sequences: 8, length: 128 },
    duration: { minutes: 7 },
    optimizer: { learningRate: 3e-3 },
    schedule: { warmupFraction: 0.02, floor: 0.05 },
    losses: { loadBalance: 0.0001 },
    evaluation: { everySteps: 500, tokens: 8192 },
    output: null,
  }),
});
