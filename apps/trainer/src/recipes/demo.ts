/** @file `demo`: what `npm start` trains. Long enough to beat the bigram on what it has read, short enough to watch. */
import { defineRecipe, smallModel } from './recipe.ts';
import type { Recipe } from './recipe.ts';

/** About three minutes on two cores; on wasm a smaller model, about five. */
export const demo: Recipe = defineRecipe({
  name: 'demo',
  summary:
    'a small model on two centuries of State of the Union addresses, about 3 minutes on 2 cores (the default)',
  prompt: 'The people of the United States',
  config: ({ engine }) => (engine === 'native' ? fullDemo() : smallDemo()),
});

function fullDemo(): ReturnType<Recipe['config']> {
  return {
    name: 'demo',
    model: smallModel({ layers: 4, width: 128, experts: 8, topK: 2, expertWidth: 192, heads: 4, kvHeads: 2 }),
    data: { training: { corpus: 'sotu' }, heldOutFraction: 0.03 },
    tokenizer: { vocabularySize: 2048 },
    batch: { sequences: 8, length: 128 },
    duration: { minutes: 2.5 },
    optimizer: { learningRate: 3e-3 },
    schedule: { warmupFraction: 0.03, floor: 0.05 },
    evaluation: { everySteps: 250, tokens: 8192 },
    output: 'runs/demo',
  };
}

/** Without the native engine one core does the work, so everything is smaller. */
function smallDemo(): ReturnType<Recipe['config']> {
  return {
    ...fullDemo(),
    model: smallModel({ layers: 2, width: 128, experts: 8, topK: 2, expertWidth: 128, heads: 4, kvHeads: 2 }),
    data: { training: { corpus: 'moby-dick' }, heldOutFraction: 0.03 },
    tokenizer: { vocabularySize: 1024 },
    batch: { sequences: 8, length: 64 },
    duration: { minutes: 4 },
  };
}
