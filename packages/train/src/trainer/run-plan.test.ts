import { describe, expect, it } from 'vitest';

import { describeLoad } from './layer-load.ts';
import { planRun, positionOf } from './run-plan.ts';
import { parseTrainConfig, resolveModelConfig } from './train-config.ts';
import type { TrainConfig } from './train-config.ts';

const fields = {
  model_type: 'qwen3_moe',
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  moe_intermediate_size: 32,
  num_experts: 4,
  num_experts_per_tok: 2,
};
const model = resolveModelConfig(fields, { vocabularySize: 500, endOfTextId: 0 });
const config = (duration: TrainConfig['duration'], batch = {}): TrainConfig =>
  parseTrainConfig({ model: fields, duration, batch: { sequences: 4, length: 32, ...batch } });

describe('planRun', () => {
  it('counts steps by steps, by tokens (rounded up), or not at all', () => {
    expect(planRun(config({ steps: 7 }), model).steps).toBe(7);
    expect(planRun(config({ tokens: 1000 }, { accumulation: 2 }), model)).toMatchObject({
      steps: 4,
      tokensPerStep: 256,
      rowsPerStep: 8,
    });
    expect(planRun(config({ minutes: 2 }), model)).toMatchObject({ steps: undefined, durationMs: 120_000 });
  });

  it('knows how far a run has come', () => {
    const progress = { step: 3, rows: 12, tokens: 384, elapsedMs: 30_000 };
    expect(positionOf(planRun(config({ steps: 12 }), model), progress).fraction).toBe(0.25);
    expect(positionOf(planRun(config({ minutes: 1 }), model), progress).fraction).toBe(0.5);
    expect(positionOf(planRun(config({ minutes: 0.1 }), model), progress).fraction).toBe(1);
  });

  it('counts a second set of gradients when micro-batches are summed', () => {
    const one = planRun(config({ steps: 1 }), model);
    const two = planRun(config({ steps: 1 }, { accumulation: 2 }), model);
    expect(two.estimatedBytes - one.estimatedBytes).toBe(4 * one.parameters);
  });
});

describe('describeLoad', () => {
  it('measures even use, skewed use and collapse', () => {
    expect(describeLoad(0, [5, 5, 5, 5])).toMatchObject({
      imbalance: 1,
      entropy: expect.closeTo(1, 12),
      idle: 0,
    });
    expect(describeLoad(1, [20, 0, 0, 0])).toMatchObject({ imbalance: 4, entropy: 0, idle: 3 });
    expect(describeLoad(2, [10, 10, 0, 0])).toMatchObject({
      imbalance: 2,
      entropy: expect.closeTo(0.5, 12),
      idle: 2,
    });
    expect(describeLoad(3, [0, 0])).toMatchObject({ imbalance: 0, entropy: 0, idle: 2 });
  });
});
