/** Helpers of the tests of surgery: a dense model, and what models compute. */
import { runSync } from '@moebius/core';
import { disposeTree, readHostSync } from '@moebius/tensor';

import type { DecoderModel, ModelConfig } from '../../src/index.ts';
import { type ModelValues, modelOfValues, valuesOfModel } from '../../src/surgery/index.ts';
import { tinyIds, tinyModel } from '../tiny-model.ts';

/** A dense model of three layers. */
export function denseModel(fields: Partial<Record<keyof ModelConfig, unknown>> = {}): DecoderModel {
  const none = {
    num_experts: undefined,
    num_experts_per_tok: undefined,
    moe_intermediate_size: undefined,
    mlp_only_layers: undefined,
  };
  return tinyModel({ model_type: 'qwen3', intermediate_size: 12, ...none, ...fields });
}

/** Logits of 12 tokens. */
export function logitsOf(model: DecoderModel): Float32Array {
  const output = runSync(model.forward({ ids: tinyIds(12) }));
  const logits = model.logits(output.hidden);
  const values = Float32Array.from(readHostSync(logits));
  disposeTree([output, logits]);
  return values;
}

/** Logits of a model given as numbers. */
export function logitsOfValues(values: ModelValues): Float32Array {
  const model = modelOfValues(values);
  try {
    return logitsOf(model);
  } finally {
    model.dispose();
  }
}

/** The numbers of a model, after it is gone. */
export function takeValues(model: DecoderModel): ModelValues {
  const values = valuesOfModel(model);
  const held = new Map(
    [...model.parameters.ids(), ...model.routerState.list().map(({ description }) => description.id)].map(
      (id) => [id, values.read(id)],
    ),
  );
  model.dispose();
  return { ...values, read: (id) => held.get(id) ?? values.read(id) };
}

/** The largest difference, over the largest number. */
export function relativeDifference(got: Float32Array, expected: Float32Array): number {
  const size = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6);
  return (
    expected.reduce((most, value, at) => Math.max(most, Math.abs((got[at] ?? Infinity) - value)), 0) / size
  );
}
