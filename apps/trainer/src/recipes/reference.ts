/** @file `reference`: the run that is compared with others. */
import { defineRecipe, smallModel } from './recipe.ts';
import type { Recipe } from './recipe.ts';

/** About an hour on two cores. */
export const reference: Recipe = defineRecipe({
  name: 'reference',
  summary: '8 layers of 16 experts on the same text, about 60 minutes on 2 cores',
  prompt: 'The people of the United States',
  config: () => ({
    name: 'reference',
    model: smallModel({
      layers: 8,
      width: 256,
      experts: 16,
      topK: 4,
      expertWidth: 256,
      heads: 8,
      kvHeads: 4,
    }),
    data: { training: { corpus: 'sotu' }, heldOutFraction: 0.1 },
    tokenizer: { vocabularySize: 4096 },
    batch: { sequences: 4, length: 512 },
    duration: { minutes: 58 },
    optimizer: { learningRate: 3e-3 },
    schedule: { warmupFraction: 0.02, floor: 0.02 },
    evaluation: { everySteps: 250, tokens: 32_768 },
    checkpoint: { everySteps: 500 },
    output: 'runs/reference',
  }),
});
