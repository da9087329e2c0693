import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { type ModelConfig, isSparseLayer, parseModelConfig } from './config.ts';
import { countActiveParameters, countParameters, estimateBytes, estimateFlops } from './count.ts';

const qwen3_30b = parseModelConfig({
  model_type: 'qwen3_moe',
  vocab_size: 151_936,
  hidden_size: 2048,
  intermediate_size: 6144,
  num_hidden_layers: 48,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  head_dim: 128,
  moe_intermediate_size: 768,
  num_experts: 128,
  num_experts_per_tok: 8,
});

const configs: fc.Arbitrary<ModelConfig> = fc
  .record({
    vocab_size: fc.integer({ min: 2, max: 50 }),
    hidden_size: fc.integer({ min: 1, max: 9 }),
    intermediate_size: fc.integer({ min: 1, max: 9 }),
    num_hidden_layers: fc.integer({ min: 1, max: 5 }),
    kv: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    half: fc.integer({ min: 1, max: 4 }),
    moe_intermediate_size: fc.integer({ min: 1, max: 9 }),
    num_experts: fc.integer({ min: 2, max: 6 }),
    decoder_sparse_step: fc.integer({ min: 1, max: 3 }),
    tie_word_embeddings: fc.boolean(),
  })
  .map(({ kv, group, half, ...rest }) =>
    parseModelConfig({
      ...rest,
      model_type: 'qwen3_moe',
      num_experts_per_tok: 2,
      num_key_value_heads: kv,
      num_attention_heads: kv * group,
      head_dim: 2 * half,
    }),
  );

/** Counts every multiplication and addition of one forward pass by walking tokens, layers and experts. */
function flopsByWalking(config: ModelConfig, sequence: number, past: number): number {
  let flops = 0;
  const product = (inputs: number, outputs: number): void => {
    flops += 2 * inputs * outputs;
  };
  const width = config.hidden_size;
  for (let token = 0; token < sequence; token += 1) {
    for (let layer = 0; layer < config.num_hidden_layers; layer += 1) {
      const queries = config.num_attention_heads * config.head_dim;
      const keys = config.num_key_value_heads * config.head_dim;
      product(width, queries);
      product(width, keys);
      product(width, keys);
      for (let seen = 0; seen <= past + token; seen += 1) {
        for (let head = 0; head < config.num_attention_heads; head += 1) {
          product(config.head_dim, 1);
          product(1, config.head_dim);
        }
      }
      product(queries, width);
      const sparse = isSparseLayer(config, layer);
      if (sparse) product(width, config.num_experts);
      const inner = sparse ? config.moe_intermediate_size : config.intermediate_size;
      for (let expert = 0; expert < (sparse ? config.num_experts_per_tok : 1); expert += 1) {
        for (let matrix = 0; matrix < 3; matrix += 1) product(width, inner);
      }
    }
    product(width, config.vocab_size);
  }
  return flops;
}

describe('counting', () => {
  it('gives the published sizes of Qwen3-30B-A3B', () => {
    expect(countParameters(qwen3_30b)).toBe(30_532_122_624);
    expect(countActiveParameters(qwen3_30b) / 1e9).toBeCloseTo(3.35, 2);
  });

  it('does not count a tied head twice', () => {
    const tied = parseModelConfig({ ...qwen3_30b, tie_word_embeddings: true });
    expect(countParameters(qwen3_30b) - countParameters(tied)).toBe(151_936 * 2048);
  });
});

describe('estimateFlops', () => {
  it('equals a walk over every token, layer, head and expert', () => {
    fc.assert(
      fc.property(
        configs,
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 0, max: 4 }),
        (config, sequence, past) => {
          expect(estimateFlops(config, { sequence, past }).forward).toBe(
            flopsByWalking(config, sequence, past),
          );
        },
      ),
    );
  });

  it('is linear in the batch, three times as much for training, and integer per token', () => {
    const one = estimateFlops(qwen3_30b, { sequence: 512 });
    const four = estimateFlops(qwen3_30b, { batch: 4, sequence: 512 });
    expect(four.forward).toBe(4 * one.forward);
    expect(four.train).toBe(3 * four.forward);
    expect(four.forwardPerToken).toBe(one.forwardPerToken);
    expect(Number.isInteger(one.trainPerToken)).toBe(true);
  });

  it('makes decoding a whole text cost what one pass over it costs', () => {
    fc.assert(
      fc.property(configs, fc.integer({ min: 1, max: 6 }), (config, length) => {
        let steps = 0;
        for (let past = 0; past < length; past += 1)
          steps += estimateFlops(config, { sequence: 1, past }).forward;
        expect(steps).toBe(estimateFlops(config, { sequence: length }).forward);
      }),
    );
  });
});

describe('estimateBytes', () => {
  it('gives integers that add up', () => {
    const bytes = estimateBytes(qwen3_30b, { batch: 2, sequence: 1024 });
    expect(bytes.parameters).toBe(4 * countParameters(qwen3_30b));
    expect(bytes.kvCache).toBe(4 * 2 * 48 * 2 * 1024 * 512);
    expect(bytes.train).toBe(
      bytes.parameters + bytes.gradients + bytes.optimizer + bytes.activations + bytes.logits,
    );
    expect(bytes.generate).toBe(bytes.parameters + bytes.kvCache);
  });
});
