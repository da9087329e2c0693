/** @file Small models for tests: every feature, few parameters. */
import { createRng } from '@moebius/core';

import {
  createModel,
  type DecoderModel,
  initialiseParameters,
  type ModelConfig,
  type ModelOptions,
  parseModelConfig,
} from '../src/index.ts';

/** One sparse, one dense, one sparse layer; grouped queries; head width unlike D / H. */
export function tinyConfig(fields: Partial<Record<keyof ModelConfig, unknown>> = {}): ModelConfig {
  return parseModelConfig({
    model_type: 'qwen3_moe',
    vocab_size: 19,
    hidden_size: 8,
    intermediate_size: 10,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 4,
    moe_intermediate_size: 6,
    num_experts: 4,
    num_experts_per_tok: 2,
    mlp_only_layers: [1],
    max_position_embeddings: 64,
    initializer_range: 0.4,
    ...fields,
  });
}

/** A model with random weights; dispose it. */
export function tinyModel(
  fields: Partial<Record<keyof ModelConfig, unknown>> = {},
  seed = 7,
  wiring: Omit<ModelOptions, 'config' | 'parameters'> = {},
): DecoderModel {
  const config = tinyConfig(fields);
  return createModel({ ...wiring, config, parameters: initialiseParameters(config, createRng(seed)) });
}

/** Int32Array of ids below the vocabulary, the same for a seed. */
export function tinyIds(count: number, vocabulary = 19, seed = 1): Int32Array {
  const rng = createRng(seed);
  return Int32Array.from({ length: count }, () => rng.integer(vocabulary));
}
