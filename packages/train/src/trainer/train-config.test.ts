import { isMoebiusError } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { parseTrainConfig, resolveModelConfig } from './train-config.ts';
import type { TrainConfigInput } from './train-config.ts';
import { trainConfigDefinition } from './train-config-schema.ts';

const model = {
  model_type: 'qwen3_moe',
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  moe_intermediate_size: 16,
  num_experts: 4,
  num_experts_per_tok: 2,
};
const smallest: TrainConfigInput = { model, duration: { steps: 3 } };

describe('parseTrainConfig', () => {
  it('fills every default, and gives what it gave when given again', () => {
    const config = parseTrainConfig(smallest);
    expect(config).toMatchObject({
      schemaVersion: 1,
      data: { training: { corpus: 'sotu' }, heldOutFraction: 0.1 },
      tokenizer: { vocabularySize: 4096 },
      batch: { sequences: 8, length: 256, accumulation: 1 },
      optimizer: { learningRate: 1e-3, noDecay: ['norm'] },
      schedule: { kind: 'cosine' },
      output: null,
    });
    expect(parseTrainConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  });

  it('reports all faults of run and model at once', () => {
    const bad = {
      model: { ...model, num_experts_per_tok: 9, hidden_size: 'wide' },
      duration: { steps: 0 },
      batch: { sequences: 1.5, lenght: 4 },
      optimizer: { learningRate: -1, noDecay: ['('] },
      data: { training: { corpus: 'sotus' } },
    };
    let message = '';
    try {
      parseTrainConfig(bad, 'run.json');
    } catch (error) {
      expect(isMoebiusError(error, 'configuration')).toBe(true);
      message = (error as Error).message;
    }
    for (const part of [
      'run.json: must be a valid configuration, got ',
      'duration.steps: must be at least 1, got 0',
      'batch.sequences: must be an integer, got 1.5',
      'batch.lenght: must be a known key, got "lenght" (did you mean "length"?)',
      'optimizer.learningRate: must be more than 0, got -1',
      'optimizer.noDecay[0]: must be a regular expression, got "("',
      'did you mean "sotu"?',
      'model.hidden_size: ',
    ]) {
      expect(message).toContain(part);
    }
  });

  it('refuses a sequence that is longer than the model has positions', () => {
    const long = { ...smallest, model: { ...model, max_position_embeddings: 128 } };
    expect(() => parseTrainConfig(long)).toThrow(
      /batch.length: must be at most model.max_position_embeddings 128, got 256/,
    );
  });

  it('refuses a schedule whose parts do not fit into the run', () => {
    const full = { ...smallest, schedule: { kind: 'wsd' as const, warmupFraction: 0.5, decayFraction: 0.6 } };
    expect(() => parseTrainConfig(full)).toThrow(
      /schedule.decayFraction: must leave room beside warmupFraction 0.5/,
    );
  });

  it('describes itself as JSON Schema', () => {
    expect(trainConfigDefinition.toJsonSchema()).toMatchObject({
      type: 'object',
      required: ['duration'],
    });
  });
});

describe('resolveModelConfig', () => {
  const tokens = { vocabularySize: 300, endOfTextId: 0 };

  it('takes the vocabulary and the end-of-text id from the tokenizer', () => {
    expect(resolveModelConfig(model, tokens)).toMatchObject({ vocab_size: 300, eos_token_id: 0 });
    expect(resolveModelConfig({ ...model, vocab_size: 320 }, tokens).vocab_size).toBe(320);
  });

  it('refuses a vocabulary smaller than the tokenizer', () => {
    expect(() => resolveModelConfig({ ...model, vocab_size: 200 }, tokens)).toThrow(
      /vocab_size: must be at least the tokenizer's 300, got 200 \(leave it out, then the tokenizer decides\)/,
    );
  });
});
