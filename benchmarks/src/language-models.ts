/**
 * @file The language models of the benchmarks: the same `config.json` on both sides.
 */
import { createRng, runSync } from '@moebius/core';
import { createModel, initialiseParameters, parseModelConfig, type DecoderModel } from '@moebius/model';
import { disposeTree } from '@moebius/tensor';

/** A size of the comparison: a Hugging Face configuration and a batch. */
export interface Size {
  readonly name: string;
  readonly config: Record<string, unknown>;
  readonly batch: number;
  readonly sequence: number;
}

const shared = {
  model_type: 'qwen3_moe',
  norm_topk_prob: true,
  output_router_logits: true,
  router_aux_loss_coef: 0.01,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
};

const d512Config = {
  ...shared,
  vocab_size: 4096,
  hidden_size: 512,
  intermediate_size: 1024,
  num_hidden_layers: 8,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 64,
  num_experts: 16,
  num_experts_per_tok: 4,
  moe_intermediate_size: 512,
};

/** From small to large, and a tiny one for `--smoke`. */
export const sizes: Record<'tiny' | 'd256' | 'd512' | 'large', Size> = {
  tiny: {
    name: 'tiny',
    config: {
      ...shared,
      vocab_size: 256,
      hidden_size: 32,
      intermediate_size: 64,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 8,
      num_experts: 4,
      num_experts_per_tok: 2,
      moe_intermediate_size: 32,
    },
    batch: 2,
    sequence: 32,
  },
  d256: {
    name: '8 layers, D=256, E=16, k=4, F=256, V=4096',
    config: {
      ...shared,
      vocab_size: 4096,
      hidden_size: 256,
      intermediate_size: 512,
      num_hidden_layers: 8,
      num_attention_heads: 8,
      num_key_value_heads: 4,
      head_dim: 32,
      num_experts: 16,
      num_experts_per_tok: 4,
      moe_intermediate_size: 256,
    },
    batch: 8,
    sequence: 256,
  },
  d512: {
    name: '8 layers, D=512, E=16, k=4, F=512, V=4096',
    config: d512Config,
    batch: 8,
    sequence: 256,
  },
  large: {
    name: '12 layers, D=512, E=16, k=4, F=512, V=8192',
    config: { ...d512Config, vocab_size: 8192, num_hidden_layers: 12 },
    batch: 8,
    sequence: 256,
  },
};

/** Our side of a comparison. */
export interface OwnModel {
  readonly model: DecoderModel;
  /** One step with everything: forward, losses, backward, clipping, AdamW. Seconds. */
  trainStep(batch: number, sequence: number): number;
  /** Hidden states and logits, nothing saved. Seconds. */
  forwardPass(batch: number, sequence: number): number;
  dispose(): void;
}

/** Builds a randomly initialised model and its step, with the settings of the peer's step. */
export function createOwnModel(size: Size): OwnModel {
  const config = parseModelConfig(size.config);
  const rng = createRng(0);
  const parameters = initialiseParameters(config, rng.fork('parameters'));
  const model = createModel({ config, parameters });
  const ids = (count: number): Int32Array =>
    Int32Array.from({ length: count }, () => rng.integer(config.vocab_size));
  return {
    model,
    trainStep(batch, sequence) {
      const input = { ids: ids(batch * sequence), targets: ids(batch * sequence), batch };
      const began = performance.now();
      const { saved } = runSync(model.loss(input));
      if (saved === null) throw new Error('train step: the loss saved nothing');
      const gradients = runSync(model.backward(saved));
      parameters.update(gradients, {
        optimizer: { lr: 1e-3, betas: [0.9, 0.95], epsilon: 1e-8, weightDecay: 0.1 },
        clipNorm: 1,
      });
      disposeTree(gradients);
      return (performance.now() - began) / 1000;
    },
    forwardPass(batch, sequence) {
      const input = { ids: ids(batch * sequence), batch };
      const began = performance.now();
      const { hidden } = runSync(model.forward(input));
      const logits = model.logits(hidden);
      logits.dataSync();
      disposeTree([hidden, logits]);
      return (performance.now() - began) / 1000;
    },
    dispose: () => model.dispose(),
  };
}
