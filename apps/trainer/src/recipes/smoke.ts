/** @file `smoke`: proves that everything works, from text to sample; learns little. */
import { defineRecipe, smallModel } from './recipe.ts';
import type { Recipe } from './recipe.ts';

/** Ends within seconds; the same on every engine. */
export const smoke: Recipe = defineRecipe({
  name: 'smoke',
  summary: 'a very small model, 60 steps on Moby Dick: everything once, well under a minute and a half',
  prompt: 'The whale',
  config: () => ({
    name: 'smoke',
    model: smallModel({ layers: 2, width: 64, experts: 8, topK: 2, expertWidth: 64, heads: 4, kvHeads: 2 }),
    data: { training: { corpus: 'moby-dick' }, heldOutFraction: 0.05 },
    tokenizer: { vocabularySize: 1024 },
    batch: { sequences: 8, length: 64 },
    duration: { steps: 60 },
    optimizer: { learningRate: 3e-3 },
    schedule: { warmupFraction: 0.2 },
    evaluation: { everySteps: 30, tokens: 8192 },
    output: 'runs/smoke',
  }),
});
