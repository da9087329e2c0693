/**
 * Trains a small Mixture-of-Experts language model on real text (Moby Dick) for a few seconds, inside your own program:
 * events in, text out.
 *
 * Run: node --import tsx --conditions=@moebius/source 02-train/main.ts
 */
import { createTrainer, generateText } from '@moebius/train';

const trainer = createTrainer(
  {
    name: 'example',
    model: {
      model_type: 'qwen3_moe',
      hidden_size: 64,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 16,
      num_experts: 8,
      num_experts_per_tok: 2,
      moe_intermediate_size: 64,
      norm_topk_prob: true,
      tie_word_embeddings: true,
    },
    data: { training: { corpus: 'moby-dick' }, heldOutFraction: 0.05 },
    tokenizer: { vocabularySize: 1024 },
    batch: { sequences: 8, length: 64 },
    duration: { steps: 100 },
    optimizer: { learningRate: 4e-3 },
    evaluation: { everySteps: 50, tokens: 4096, finalTokens: 8192 },
    seed: 1,
  },
  { clock: { nowMs: () => performance.now() } },
);

for await (const event of trainer.run()) {
  if (event.kind === 'prepare') console.log(`${event.stage}: ${event.detail}`);
  if (event.kind === 'step' && event.step % 20 === 0) {
    const worst = Math.max(...event.routing.map(({ imbalance }) => imbalance));
    console.log(
      `step ${event.step}  loss ${event.loss.toFixed(3)}  busiest expert ${worst.toFixed(2)}× the mean`,
    );
  }
  if (event.kind === 'evaluate') console.log(`held out: ${event.bitsPerByte.toFixed(3)} bits per byte`);
  if (event.kind === 'end' && event.baselines !== undefined) {
    console.log(
      `for comparison, gzip: ${event.baselines.gzip.toFixed(3)}, token unigram: ${event.baselines.tokenUnigram.toFixed(3)}`,
    );
  }
}

let text = '';
const { model, dataset } = trainer;
for await (const piece of generateText({ model, tokenizer: dataset.tokenizer }, 'The whale', {
  maximumTokens: 40,
})) {
  text += piece;
}
console.log(`The whale${text}`);
trainer.dispose();
