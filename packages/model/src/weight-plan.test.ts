import type { DType } from '@moebius/core';
import type { TensorReader } from '@moebius/safetensors';
import { describe, expect, it } from 'vitest';

import { parseModelConfig } from './config.ts';
import { describeParameters, fileShape } from './describe-parameters.ts';
import { findWeights } from './weight-plan.ts';

const config = parseModelConfig({
  model_type: 'qwen3_moe',
  vocab_size: 11,
  hidden_size: 6,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  moe_intermediate_size: 5,
  num_experts: 3,
  num_experts_per_tok: 2,
});

type Entries = { [name: string]: { shape: readonly number[]; dtype: DType } };

const complete = (): Entries =>
  Object.fromEntries(
    describeParameters(config).map((entry) => [entry.id, { shape: fileShape(entry), dtype: 'BF16' }]),
  );

function readerOf(entries: Entries): Pick<TensorReader, 'names' | 'has' | 'info'> {
  return {
    names: () => Object.keys(entries),
    has: (name) => name in entries,
    info: (name) => ({ name, ...(entries[name] ?? { shape: [], dtype: 'F32' }), begin: 0, end: 0 }),
  };
}

describe('findWeights', () => {
  it('finds each parameter under its own name', () => {
    const plan = findWeights(config, readerOf(complete()));
    expect(plan.sources.map(({ id, name, rows, part }) => [id, name, rows, part])).toEqual(
      describeParameters(config).map(({ id }) => [id, id, null, 0]),
    );
    expect([plan.missing, plan.unused, plan.faults]).toEqual([[], [], []]);
  });

  it('finds experts in the rows and halves of fused tensors, and calls no part of them unused', () => {
    const entries = complete();
    for (const name of Object.keys(entries)) if (name.includes('layers.1.mlp.experts.')) delete entries[name];
    const prefix = 'model.layers.1.mlp.experts';
    entries[`${prefix}.gate_up_proj`] = { shape: [3, 10, 6], dtype: 'F32' };
    entries[`${prefix}.down_proj`] = { shape: [3, 6, 5], dtype: 'F32' };
    const plan = findWeights(config, readerOf(entries));
    expect([plan.missing, plan.unused, plan.faults]).toEqual([[], [], []]);
    const of = (id: string): unknown => {
      const { name, rows, part } = plan.sources.find((source) => source.id === id) ?? {};
      return [name, rows, part];
    };
    const rows = { start: 2, end: 3 };
    expect(of(`${prefix}.2.gate_proj.weight`)).toEqual([`${prefix}.gate_up_proj`, rows, 0]);
    expect(of(`${prefix}.2.up_proj.weight`)).toEqual([`${prefix}.gate_up_proj`, rows, 1]);
    expect(of(`${prefix}.2.down_proj.weight`)).toEqual([`${prefix}.down_proj`, rows, 0]);
  });

  it('reports a fused tensor of another shape once, not per expert', () => {
    const entries = complete();
    for (const name of Object.keys(entries)) if (name.includes('layers.0.mlp.experts.')) delete entries[name];
    entries['model.layers.0.mlp.experts.gate_up_proj'] = { shape: [3, 6, 10], dtype: 'F32' };
    const plan = findWeights(config, readerOf(entries));
    expect(plan.faults).toEqual([
      'model.layers.0.mlp.experts.gate_up_proj of shape [3, 6, 10] where [3, 10, 6] is needed',
    ]);
    expect(plan.missing.map(({ id }) => id)).toEqual(
      [0, 1, 2].map((e) => `model.layers.0.mlp.experts.${e}.down_proj.weight`),
    );
  });

  it('does not take a transposed down projection for a fitting one', () => {
    const entries = complete();
    const name = 'model.layers.0.mlp.experts.1.down_proj.weight';
    entries[name] = { shape: [5, 6], dtype: 'F32' };
    expect(findWeights(config, readerOf(entries)).faults).toEqual([
      `${name} of shape [5, 6] where [6, 5] is needed`,
    ]);
  });
});
