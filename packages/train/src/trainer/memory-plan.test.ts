import { isMoebiusError } from '@moebius/core';
import { countParameters } from '@moebius/model';
import { describe, expect, it } from 'vitest';

import { assertFits, estimateMemory, processBytes } from './memory-plan.ts';
import { parseTrainConfig, resolveModelConfig } from './train-config.ts';
import type { TrainConfig, TrainConfigInput } from './train-config.ts';

/** The model of the memory benchmark: 8 layers, D=256, E=16, k=4, F=256, V=4096. */
const fields = {
  model_type: 'qwen3_moe',
  hidden_size: 256,
  num_hidden_layers: 8,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 32,
  moe_intermediate_size: 256,
  num_experts: 16,
  num_experts_per_tok: 4,
  norm_topk_prob: true,
  tie_word_embeddings: true,
};
const model = resolveModelConfig(fields, { vocabularySize: 4096, endOfTextId: 0 });
const config = (parts: Partial<TrainConfigInput> = {}): TrainConfig =>
  parseTrainConfig({
    model: fields,
    duration: { steps: 1 },
    batch: { sequences: 2, length: 128 },
    ...parts,
  });
const mebibyte = 2 ** 20;

/** The message for a limit, and its numbers. */
function refusal(
  wanted: TrainConfig,
  limitBytes: number,
): { message: string; details: Record<string, unknown> } {
  try {
    assertFits(wanted, model, { limitBytes });
  } catch (error) {
    if (!isMoebiusError(error, 'limit')) throw error;
    return { message: error.message, details: error.details };
  }
  throw new Error('it fits');
}

describe('estimateMemory', () => {
  it('counts what the optimizer keeps: two moments for AdamW, one for SGD, one for Muon’s matrices', () => {
    const state = (optimizer: object): number =>
      estimateMemory(config({ optimizer }), model).state - 2 * 4 * countParameters(model);
    const whole = 4 * countParameters(model);
    expect(state({})).toBe(2 * whole);
    expect(state({ kind: 'sgd' })).toBe(whole);
    expect(state({ kind: 'sgd', momentum: 0 })).toBe(0);
    const others = 4096 * 256 + 8 * (16 * 256 + 2 * 256 + 2 * 32) + 256;
    expect(state({ kind: 'muon' })).toBe(whole + 4 * others);
  });

  it('is what the memory benchmark measured: a peak of 1,159 MiB, within a twentieth', () => {
    const peak = (processBytes + estimateMemory(config(), model).step) / mebibyte;
    expect(peak / 1159).toBeGreaterThan(0.95);
    expect(peak / 1159).toBeLessThan(1.05);
  });

  it('is what an hour of the reference recipe took at most: 1,558 MiB with 4 sequences of 512, within a tenth', () => {
    const reference = config({ batch: { sequences: 4, length: 512 }, output: 'runs/reference' });
    const { step, save } = estimateMemory(reference, model);
    expect((processBytes + Math.max(step, save)) / mebibyte / 1558).toBeGreaterThan(0.9);
    expect((processBytes + Math.max(step, save)) / mebibyte / 1558).toBeLessThan(1.1);
  });

  it('counts copies of the weights, sums of gradients, and a checkpoint on the host', () => {
    const bytes = 4 * countParameters(model);
    const plain = estimateMemory(config(), model);
    expect(plain.save).toBe(0);
    const copies = estimateMemory(
      config({ ema: { decay: 0.9 }, earlyStop: { patience: 1 }, evaluation: { everySteps: 1 } }),
      model,
    );
    expect(copies.step - plain.step).toBe(2 * bytes);
    const sums = estimateMemory(config({ batch: { sequences: 2, length: 128, accumulation: 3 } }), model);
    expect(sums.step - plain.step).toBe(bytes);
    expect(estimateMemory(config({ output: 'runs/x' }), model).save).toBe(6 * bytes);
  });
});

describe('assertFits', () => {
  it('says how many sequences would fit, which do, and one more does not', () => {
    const large = config({ batch: { sequences: 512, length: 256 } });
    const { message, details } = refusal(large, 4096 * mebibyte);
    const { fittingSequences: fitting } = details as { fittingSequences: number };
    expect(message).toMatch(
      new RegExp(
        `^memory: a run must fit in 4096 MiB, got an estimate of \\d+ MiB, 676 of them for the process \\(batch.sequences ${fitting} of 256 tokens would fit; raise batch.accumulation to keep the step's size\\)$`,
      ),
    );
    const tryOut = (sequences: number) => (): void =>
      assertFits(config({ batch: { sequences, length: 256 } }), model, { limitBytes: 4096 * mebibyte });
    expect(fitting).toBeGreaterThan(2);
    expect(tryOut(fitting)).not.toThrow();
    expect(tryOut(fitting + 1)).toThrow(/would fit/);
  });

  it('says how long a single sequence may be', () => {
    const long = config({ batch: { sequences: 4, length: 100_000 } });
    const { message, details } = refusal(long, 2048 * mebibyte);
    const { fittingLength: fitting } = details as { fittingLength: number };
    expect(message).toContain(`(batch.sequences 1 with batch.length ${fitting} would fit)`);
    const tryOut = (length: number) => (): void =>
      assertFits(config({ batch: { sequences: 1, length } }), model, { limitBytes: 2048 * mebibyte });
    expect(tryOut(fitting)).not.toThrow();
    expect(tryOut(fitting + 1)).toThrow(/batch.length/);
  });

  it('says when the weights alone are too much, and that a saved run needs more', () => {
    const bytes = 4 * countParameters(model);
    const state = Math.ceil((4 * bytes) / mebibyte);
    expect(refusal(config(), 800 * mebibyte).message).toContain(
      `(no batch fits: weights, moments, gradients and copies alone need ${state} MiB; make the model smaller)`,
    );
    const between = { limitBytes: processBytes + 5 * bytes };
    expect(() => assertFits(config(), model, between)).not.toThrow();
    expect(() => assertFits(config({ output: 'runs/x' }), model, between)).toThrow(/no batch fits/);
  });

  it('counts what the process holds already', () => {
    const limitBytes = 2048 * mebibyte;
    expect(() => assertFits(config(), model, { limitBytes })).not.toThrow();
    expect(() => assertFits(config(), model, { limitBytes, usedBytes: 1900 * mebibyte })).toThrow(
      /1900 of them for the process/,
    );
  });
});
