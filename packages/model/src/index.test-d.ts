import type { Task } from '@moebius/core';
import type { Tensor2D } from '@moebius/tensor';
import { expectTypeOf } from 'vitest';

import {
  type Block,
  createDecoderBlock,
  createModel,
  type DecoderModel,
  generate,
  type GeneratedToken,
  loadModel,
  type LossOutput,
  type LossSaved,
  type ModelConfig,
  type ParameterGradients,
  parseModelConfig,
} from './index.ts';

expectTypeOf(parseModelConfig).parameter(0).toEqualTypeOf<unknown>();
expectTypeOf<ModelConfig['model_type']>().toEqualTypeOf<'qwen3_moe' | 'qwen3'>();
expectTypeOf(loadModel).returns.toEqualTypeOf<Promise<DecoderModel>>();
expectTypeOf(createDecoderBlock).returns.toEqualTypeOf<Block>();
expectTypeOf(createModel).returns.toEqualTypeOf<DecoderModel>();
expectTypeOf(generate).returns.toEqualTypeOf<AsyncGenerator<GeneratedToken, void, void>>();

declare const model: DecoderModel;
expectTypeOf(model.loss({ ids: new Int32Array(2), targets: new Int32Array(2) })).toEqualTypeOf<
  Task<LossOutput>
>();
expectTypeOf<LossOutput['saved']>().toEqualTypeOf<LossSaved | null>();
expectTypeOf(model.backward).returns.toEqualTypeOf<Task<ParameterGradients>>();
expectTypeOf(model.logits).returns.toEqualTypeOf<Tensor2D>();

// @ts-expect-error a loss needs targets
model.loss({ ids: new Int32Array(2) });
// @ts-expect-error ids are a typed array
model.forward({ ids: [1, 2] });
// @ts-expect-error a configuration is parsed, not assembled
createModel({ config: { model_type: 'qwen3_moe' }, parameters: model.parameters });
