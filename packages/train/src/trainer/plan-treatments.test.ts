import { describeParameters, parseModelConfig } from '@moebius/model';
import { describe, expect, it } from 'vitest';

import { nearestIds } from './parameter-patterns.ts';
import { planTreatments } from './plan-treatments.ts';
import { parseTrainConfig } from './train-config.ts';
import type { OptimizerConfig } from './train-config.ts';

const model = {
  model_type: 'qwen3_moe',
  vocab_size: 64,
  hidden_size: 32,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  moe_intermediate_size: 16,
  num_experts: 4,
  num_experts_per_tok: 2,
};
const ids = describeParameters(parseModelConfig(model)).map(({ id }) => id);

function optimizer(parts: Partial<OptimizerConfig>): OptimizerConfig {
  return parseTrainConfig({ model, duration: { steps: 1 }, optimizer: parts }).optimizer;
}

const expert = 'model.layers.1.mlp.experts.2.up_proj.weight';

describe('planTreatments', () => {
  it('by default only spares the norms from decay', () => {
    const plan = planTreatments(optimizer({}), ids);
    expect(Object.keys(plan)).toEqual(ids);
    for (const id of ids) {
      expect(plan[id], id).toEqual({ learningRateScale: 1, weightDecay: id.includes('norm') ? 0 : 0.1 });
    }
  });

  it('takes the first group that matches, and its decay over noDecay', () => {
    const groups = [
      { pattern: 'layers\\.1\\..*experts', learningRateScale: 0.5 },
      { pattern: '@experts', learningRateScale: 0.1, weightDecay: 0.3 },
      { pattern: '@norms', weightDecay: 0.2 },
    ];
    const plan = planTreatments(optimizer({ groups, noDecay: ['@norms', '@router', '@embeddings'] }), ids);
    expect(plan[expert]).toEqual({ learningRateScale: 0.5, weightDecay: 0.1 });
    expect(plan[expert.replace('layers.1', 'layers.2')]).toEqual({
      learningRateScale: 0.1,
      weightDecay: 0.3,
    });
    expect(plan['model.norm.weight']).toEqual({ learningRateScale: 1, weightDecay: 0.2 });
    for (const id of ['model.layers.0.mlp.gate.weight', 'model.embed_tokens.weight', 'lm_head.weight']) {
      expect(plan[id], id).toEqual({ learningRateScale: 1, weightDecay: 0 });
    }
  });

  it('lets the rate fall from the top layer down, the embedding lowest', () => {
    const groups = [{ pattern: '@router', learningRateScale: 0.5 }];
    const plan = planTreatments(optimizer({ layerDecay: 0.8, groups }), ids);
    const scale = (id: string): number | undefined => plan[id]?.learningRateScale;
    expect(scale('lm_head.weight')).toBe(1);
    expect(scale('model.norm.weight')).toBe(1);
    expect(scale(expert.replace('layers.1', 'layers.2'))).toBe(1);
    expect(scale(expert)).toBeCloseTo(0.8);
    expect(scale(expert.replace('layers.1', 'layers.0'))).toBeCloseTo(0.64);
    expect(scale('model.embed_tokens.weight')).toBeCloseTo(0.512);
    expect(scale('model.layers.0.mlp.gate.weight')).toBeCloseTo(0.32);
  });

  it('freezes by pattern and by group', () => {
    const plan = planTreatments(
      optimizer({ freeze: ['@embeddings'], groups: [{ pattern: '@router', frozen: true }] }),
      ids,
    );
    const frozen = ids.filter((id) => plan[id]?.frozen === true);
    expect(frozen).toEqual([
      'model.embed_tokens.weight',
      ...[0, 1, 2].map((layer) => `model.layers.${layer}.mlp.gate.weight`),
      'lm_head.weight',
    ]);
  });

  it('names every pattern that matches nothing, with the nearest parameters', () => {
    const wrong = optimizer({
      freeze: ['embed_token\\b', '@experts'],
      groups: [{ pattern: 'mlp\\.expert\\.1' }],
    });
    expect(() => planTreatments(wrong, ids)).toThrow(
      'run configuration: must be a valid configuration, got 2 faults:\n' +
        '  optimizer.groups[0].pattern: must match a parameter, got "mlp\\\\.expert\\\\.1" ' +
        '(nearest: model.layers.0.mlp.experts.0.gate_proj.weight, model.layers.0.mlp.experts.0.up_proj.weight, model.layers.0.mlp.experts.0.down_proj.weight)\n' +
        '  optimizer.freeze[0]: must match a parameter, got "embed_token\\\\b" (nearest: model.embed_tokens.weight',
    );
    expect(nearestIds('k_porj', ids, 1)).toEqual(['model.layers.0.self_attn.k_proj.weight']);
  });

  it('refuses to freeze everything', () => {
    expect(() => planTreatments(optimizer({ freeze: ['.'] }), ids)).toThrow(
      `optimizer.freeze: must leave a parameter to train, got all ${ids.length} frozen`,
    );
  });
});
