import { readFileSync } from 'node:fs';

import { isMoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { isSparseLayer, modelConfigToJson, parseModelConfig } from './config.ts';

const small = {
  model_type: 'qwen3_moe',
  vocab_size: 512,
  hidden_size: 64,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  moe_intermediate_size: 32,
  num_experts: 8,
  num_experts_per_tok: 2,
} as const;

function faultsOf(value: unknown): string {
  try {
    parseModelConfig(value);
  } catch (error) {
    if (isMoebiusError(error, 'configuration')) return error.message;
    throw error;
  }
  return '';
}

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../test/__fixtures__/${name}/config.json`, import.meta.url), 'utf8'));

describe('parseModelConfig', () => {
  it('reads a config.json written by transformers 5', () => {
    const config = parseModelConfig(fixture('qwen3-moe-mixed'));
    expect(config).toMatchObject({ num_experts: 8, rope_theta: 10_000, head_dim: 16, mlp_only_layers: [1] });
    expect(config.norm_topk_prob).toBe(true);
    expect(parseModelConfig(fixture('qwen3-moe-tied')).rope_theta).toBe(1_000_000);
  });

  it('reads a config.json written by transformers 4', () => {
    const published = {
      ...small,
      rope_theta: 1e6,
      rope_scaling: null,
      torch_dtype: 'bfloat16',
      head_dim: 128,
    };
    expect(parseModelConfig(published)).toMatchObject({ rope_theta: 1e6, head_dim: 128, num_experts: 8 });
  });

  it('fills the defaults of the Hugging Face class and derives head_dim', () => {
    expect(parseModelConfig(small)).toMatchObject({
      head_dim: 16,
      rms_norm_eps: 1e-6,
      norm_topk_prob: false,
      router_aux_loss_coef: 0.001,
      rope_theta: 10_000,
      tie_word_embeddings: false,
      eos_token_id: null,
    });
  });

  it('has no default for a size', () => {
    for (const key of Object.keys(small).filter((name) => name !== 'model_type')) {
      expect(faultsOf({ ...small, [key]: undefined })).toContain(`${key}: must be an integer`);
    }
  });

  it('requires intermediate_size exactly when a layer is dense', () => {
    expect(faultsOf(small)).toBe('');
    expect(faultsOf({ ...small, mlp_only_layers: [0] })).toContain('intermediate_size: must be an integer');
    expect(faultsOf({ ...small, decoder_sparse_step: 2 })).toContain('intermediate_size: must be an integer');
  });

  it('reports all faults at once', () => {
    const message = faultsOf({
      ...small,
      vocab_size: -1,
      hidden_size: 'x',
      hidden_act: 'gelu',
      attention_bias: true,
    });
    expect(message).toContain('vocab_size: must be an integer from 1');
    expect(message).toContain('got -1');
    expect(message).toContain('hidden_size: must be an integer');
    expect(message).toContain('hidden_act: must be "silu", got "gelu"');
    expect(message).toContain('attention_bias: must be false, got true');
  });

  it('lists the supported families when model_type is unknown', () => {
    expect(faultsOf({ ...small, model_type: 'mixtral' })).toContain(
      'model_type: must be one of qwen3_moe, qwen3, got "mixtral"',
    );
    expect(faultsOf({ ...small, model_type: undefined })).toContain('got nothing');
  });

  it('refuses numbers that contradict each other', () => {
    expect(faultsOf({ ...small, num_key_value_heads: 3 })).toContain('must divide num_attention_heads 4');
    expect(faultsOf({ ...small, head_dim: 15 })).toContain('head_dim: must be even');
    expect(faultsOf({ ...small, num_experts_per_tok: 9 })).toContain('must be at most num_experts 8, got 9');
    expect(faultsOf({ ...small, num_local_experts: 4 })).toContain('must equal num_experts 8, got 4');
    expect(faultsOf({ ...small, mlp_only_layers: [4], intermediate_size: 8 })).toContain(
      'below num_hidden_layers 4',
    );
    expect(faultsOf({ ...small, eos_token_id: [1, 512] })).toContain(
      'eos_token_id: must be below vocab_size 512',
    );
    expect(faultsOf({ ...small, rope_theta: 5, rope_parameters: { rope_theta: 6 } })).toContain(
      'must equal rope_theta',
    );
  });

  it('refuses scaled RoPE instead of computing something else', () => {
    expect(faultsOf({ ...small, rope_scaling: { type: 'yarn', factor: 4 } })).toContain(
      'must be "default", got "yarn"',
    );
    expect(faultsOf({ ...small, rope_parameters: { rope_type: 'linear' } })).toContain(
      'rope_parameters.rope_type',
    );
  });

  it('refuses sizes beyond its limits', () => {
    expect(faultsOf({ ...small, num_hidden_layers: 1e9 })).toContain('from 1 to 4096');
    expect(faultsOf({ ...small, num_hidden_layers: 4096, num_experts: 65_536 })).toContain(
      'num_experts: times num_hidden_layers must be at most 1048576, got 268435456',
    );
    expect(faultsOf({ ...small, mlp_only_layers: Array.from({ length: 5000 }, () => 0) })).toContain(
      'mlp_only_layers',
    );
  });

  it('never throws anything but a configuration error', () => {
    const key = fc.constantFrom(...Object.keys(small), 'rope_parameters', 'eos_token_id', 'mlp_only_layers');
    fc.assert(
      fc.property(key, fc.anything(), (name, value) => {
        try {
          expect(Object.isFrozen(parseModelConfig({ ...small, [name]: value }))).toBe(true);
        } catch (error) {
          expect(isMoebiusError(error, 'configuration')).toBe(true);
        }
      }),
    );
    fc.assert(
      fc.property(fc.anything(), (value) => {
        expect(() => parseModelConfig(value)).toThrow('config.json');
      }),
    );
  });

  it('does not read inherited properties', () => {
    expect(faultsOf(Object.create(small))).toContain('vocab_size');
  });
});

describe('modelConfigToJson', () => {
  it('is read back as the same configuration', () => {
    for (const name of ['qwen3-moe-mixed', 'qwen3-moe-tied']) {
      const config = parseModelConfig(fixture(name));
      expect(parseModelConfig(JSON.parse(JSON.stringify(modelConfigToJson(config))))).toEqual(config);
    }
  });

  it('names the architecture and the dtype for both generations of transformers', () => {
    expect(modelConfigToJson(parseModelConfig(small), 'bfloat16')).toMatchObject({
      architectures: ['Qwen3MoeForCausalLM'],
      dtype: 'bfloat16',
      torch_dtype: 'bfloat16',
      rope_parameters: { rope_type: 'default', rope_theta: 10_000 },
      rope_theta: 10_000,
    });
  });
});

describe('isSparseLayer', () => {
  const sparse = (fields: object): number[] => {
    const config = parseModelConfig({ ...small, intermediate_size: 8, ...fields });
    return [0, 1, 2, 3].filter((layer) => isSparseLayer(config, layer));
  };

  it('follows decoder_sparse_step, mlp_only_layers and num_experts', () => {
    expect(sparse({})).toEqual([0, 1, 2, 3]);
    expect(sparse({ decoder_sparse_step: 2 })).toEqual([1, 3]);
    expect(sparse({ decoder_sparse_step: 2, mlp_only_layers: [3] })).toEqual([1]);
    expect(sparse({ num_experts: 0 })).toEqual([]);
  });
});
