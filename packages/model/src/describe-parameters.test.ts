import { readFileSync } from 'node:fs';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { isSparseLayer, type ModelConfig, parseModelConfig } from './config.ts';
import { countParameters } from './count.ts';
import { describeParameters, fileShape } from './describe-parameters.ts';
import { familyOf, qwen3Moe } from './family.ts';

const configs: fc.Arbitrary<ModelConfig> = fc
  .record({
    num_hidden_layers: fc.integer({ min: 1, max: 4 }),
    num_experts: fc.integer({ min: 0, max: 5 }),
    decoder_sparse_step: fc.integer({ min: 1, max: 3 }),
    tie_word_embeddings: fc.boolean(),
  })
  .map((fields) =>
    parseModelConfig({
      model_type: 'qwen3_moe',
      vocab_size: 11,
      hidden_size: 6,
      intermediate_size: 7,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 8,
      moe_intermediate_size: 5,
      num_experts_per_tok: 1,
      ...fields,
      num_experts: fields.num_experts,
    }),
  );

const sizeOf = (shape: readonly number[]): number => shape.reduce((size, axis) => size * axis, 1);

describe('describeParameters', () => {
  it('lists each tensor once, as many values as the closed formula counts', () => {
    fc.assert(
      fc.property(configs, (config) => {
        const list = describeParameters(config);
        expect(new Set(list.map(({ id }) => id)).size).toBe(list.length);
        expect(list.reduce((sum, { shape }) => sum + sizeOf(shape), 0)).toBe(countParameters(config));
      }),
    );
  });

  it('gives every expert a unit of its own and the rest of a layer another', () => {
    fc.assert(
      fc.property(configs, (config) => {
        const units = new Map<string, number>();
        for (const { unit } of describeParameters(config)) units.set(unit, (units.get(unit) ?? 0) + 1);
        for (let layer = 0; layer < config.num_hidden_layers; layer += 1) {
          const sparse = isSparseLayer(config, layer);
          expect(units.get(`layers.${layer}`)).toBe(sparse ? 9 : 11);
          for (let expert = 0; expert < config.num_experts; expert += 1) {
            expect(units.get(`layers.${layer}.experts.${expert}`)).toBe(sparse ? 3 : undefined);
          }
        }
      }),
    );
  });

  it('keeps feed-forward matrices as [F, D] and turns only the down projection at the file', () => {
    fc.assert(
      fc.property(configs, (config) => {
        for (const description of describeParameters(config)) {
          const { id, shape, transposed } = description;
          expect(transposed).toBe(id.endsWith('.down_proj.weight'));
          expect(fileShape(description)).toEqual(transposed ? shape.toReversed() : shape);
          if (/\.(gate|up|down)_proj\.weight$/.test(id)) {
            expect(shape).toEqual([id.includes('.experts.') ? 5 : 7, 6]);
          }
        }
      }),
    );
  });

  it.each(['qwen3-moe-mixed', 'qwen3-moe-tied'])(
    'has the names and shapes of the file transformers wrote, %s',
    (name) => {
      const folder = new URL(`../test/__fixtures__/${name}/`, import.meta.url);
      const config = parseModelConfig(JSON.parse(readFileSync(new URL('config.json', folder), 'utf8')));
      const bytes = readFileSync(new URL('model.safetensors', folder));
      const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)))) as Record<
        string,
        { shape: number[] }
      >;
      delete header['__metadata__'];
      const shapes = Object.fromEntries(Object.entries(header).map(([id, { shape }]) => [id, shape]));
      expect(
        Object.fromEntries(describeParameters(config).map((entry) => [entry.id, fileShape(entry)])),
      ).toEqual(shapes);
    },
  );
});

describe('familyOf', () => {
  it('gives Qwen3-MoE its gate', () => {
    fc.assert(
      fc.property(fc.boolean(), (norm_topk_prob) => {
        const config = { num_experts: 8, num_experts_per_tok: 3, norm_topk_prob } as ModelConfig;
        expect(qwen3Moe.gate(config)).toMatchObject({
          experts: 8,
          topK: 3,
          score: 'softmax',
          renormalise: norm_topk_prob,
          scale: 1,
          groups: null,
        });
      }),
    );
  });

  it('lists the families when asked for another', () => {
    expect(() => familyOf({ model_type: 'mixtral' as 'qwen3_moe' })).toThrow(
      'must be one of qwen3_moe, qwen3, got "mixtral"',
    );
  });
});
