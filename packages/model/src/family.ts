/**
 * @file Model families as data: what Hugging Face calls the family, how its gate routes, and how its tensors are named.
 *
 * A family that differs from Qwen3-MoE only in these points is a new entry here, not new code.
 */
import { MoebiusError } from '@moebius/core';
import { type GateConfig, parseGateConfig } from '@moebius/routing';

import type { ModelConfig } from './config.ts';

/** The names of a sparse or dense feed-forward layer's tensors in a Hugging Face file. */
export interface FeedForwardNames {
  /** `[F, D]` */
  readonly gate: string;
  /** `[F, D]` */
  readonly up: string;
  /** `[D, F]` in the file, `[F, D]` in memory. */
  readonly down: string;
}

/** The names of tensors that hold all experts of a layer. */
export interface FusedExpertNames {
  /** `[E, 2F, D]`, gate rows first. */
  readonly gateUp: string;
  /** `[E, D, F]` */
  readonly down: string;
}

/** The tensor names of one family, as they stand in the file. */
export interface ModelNames {
  /** Token embedding, `[V, D]`. */
  readonly embedding: string;
  /** Last norm, `[D]`. */
  readonly finalNorm: string;
  /** Output projection, `[V, D]`; absent from the file when tied. */
  readonly head: string;
  /** One layer's attention and norms. */
  layer(layer: number): LayerNames;
  /** A dense layer's feed-forward. */
  dense(layer: number): FeedForwardNames;
  /** A sparse layer's router, `[E, D]`. */
  router(layer: number): string;
  /** A tensor of a sparse layer's router by its own name: `weight` is {@link ModelNames.router}. */
  routerTensor(layer: number, name: string): string;
  /** A part of one expert: `gate`, `up`, `down` are those of {@link ModelNames.expert}, `upBias` is `up_proj.bias`. */
  expertPart(layer: number, expert: number, part: string): string;
  /** A frozen part that all experts of a sparse layer stand on: named as a dense layer's feed-forward. */
  basePart(layer: number, part: string): string;
  /** A part of the shared expert of a sparse layer. */
  sharedPart(layer: number, part: string): string;
  /** A tensor of what joins shared and routed: `weight` is Qwen2-MoE's `shared_expert_gate`. */
  sharedGate(layer: number, name: string): string;
  /** One expert of a sparse layer. */
  expert(layer: number, expert: number): FeedForwardNames;
  /** All experts of a sparse layer, when a file holds them fused. */
  fusedExperts(layer: number): FusedExpertNames;
}

/** The tensor names of one layer's attention and norms. */
export interface LayerNames {
  /** `[D]`, before attention. */
  readonly inputNorm: string;
  /** `[H·C, D]` */
  readonly query: string;
  /** `[J·C, D]` */
  readonly key: string;
  /** `[J·C, D]` */
  readonly value: string;
  /** `[D, H·C]` */
  readonly output: string;
  /** `[C]`, of every query head. */
  readonly queryNorm: string;
  /** `[C]`, of every key head. */
  readonly keyNorm: string;
  /** `[D]`, before the feed-forward. */
  readonly postAttentionNorm: string;
}

/** One family of decoder language models. */
export interface ModelFamily {
  /** `model_type` of config.json. */
  readonly modelType: string;
  /** The entry of `architectures` in config.json. */
  readonly architecture: string;
  /** How tokens choose experts. */
  gate(config: ModelConfig): GateConfig;
  /** How tensors are named. */
  readonly names: ModelNames;
}

const layerPrefix = (layer: number): string => `model.layers.${layer}`;

function feedForwardNames(prefix: string): FeedForwardNames {
  return {
    gate: `${prefix}.gate_proj.weight`,
    up: `${prefix}.up_proj.weight`,
    down: `${prefix}.down_proj.weight`,
  };
}

/** What Hugging Face calls the parts of feed-forward experts. */
const partNames: { readonly [part: string]: string } = {
  gate: 'gate_proj.weight',
  up: 'up_proj.weight',
  down: 'down_proj.weight',
  gateBias: 'gate_proj.bias',
  upBias: 'up_proj.bias',
  downBias: 'down_proj.bias',
};

function attentionNames(layer: number): LayerNames {
  const prefix = layerPrefix(layer);
  return {
    inputNorm: `${prefix}.input_layernorm.weight`,
    query: `${prefix}.self_attn.q_proj.weight`,
    key: `${prefix}.self_attn.k_proj.weight`,
    value: `${prefix}.self_attn.v_proj.weight`,
    output: `${prefix}.self_attn.o_proj.weight`,
    queryNorm: `${prefix}.self_attn.q_norm.weight`,
    keyNorm: `${prefix}.self_attn.k_norm.weight`,
    postAttentionNorm: `${prefix}.post_attention_layernorm.weight`,
  };
}

/** Qwen3-MoE: softmax over all experts, top-k, optionally divided by their sum; experts under `mlp.experts`. */
export const qwen3Moe: ModelFamily = {
  modelType: 'qwen3_moe',
  architecture: 'Qwen3MoeForCausalLM',
  gate: (config) =>
    parseGateConfig({
      experts: config.num_experts,
      topK: config.num_experts_per_tok,
      renormalise: config.norm_topk_prob,
    }),
  names: {
    embedding: 'model.embed_tokens.weight',
    finalNorm: 'model.norm.weight',
    head: 'lm_head.weight',
    layer: attentionNames,
    dense: (layer) => feedForwardNames(`${layerPrefix(layer)}.mlp`),
    router: (layer) => `${layerPrefix(layer)}.mlp.gate.weight`,
    routerTensor: (layer, name) => `${layerPrefix(layer)}.mlp.gate.${name}`,
    expertPart: (layer, expert, part) =>
      `${layerPrefix(layer)}.mlp.experts.${expert}.${partNames[part] ?? part}`,
    basePart: (layer, part) => `${layerPrefix(layer)}.mlp.${partNames[part] ?? part}`,
    sharedPart: (layer, part) => `${layerPrefix(layer)}.mlp.shared_expert.${partNames[part] ?? part}`,
    sharedGate: (layer, name) => `${layerPrefix(layer)}.mlp.shared_expert_gate.${name}`,
    expert: (layer, expert) => feedForwardNames(`${layerPrefix(layer)}.mlp.experts.${expert}`),
    fusedExperts: (layer) => ({
      gateUp: `${layerPrefix(layer)}.mlp.experts.gate_up_proj`,
      down: `${layerPrefix(layer)}.mlp.experts.down_proj`,
    }),
  },
};

/** Qwen3: the dense relative, with the same names; what upcycling begins with and merging ends in. */
export const qwen3: ModelFamily = { ...qwen3Moe, modelType: 'qwen3', architecture: 'Qwen3ForCausalLM' };

const families: readonly ModelFamily[] = [qwen3Moe, qwen3];

/** Families this package reads, by `model_type`. */
export const supportedModelTypes: readonly string[] = families.map((family) => family.modelType);

/**
 * The family of a configuration.
 *
 * @throws `registry` when no family has this `model_type`; a parsed configuration always has one.
 */
export function familyOf(config: Pick<ModelConfig, 'model_type'>): ModelFamily {
  const family = families.find((candidate) => candidate.modelType === config.model_type);
  if (family !== undefined) return family;
  throw new MoebiusError({
    code: 'registry',
    message: `model_type: must be one of ${supportedModelTypes.join(', ')}, got "${String(config.model_type)}"`,
    details: { known: [...supportedModelTypes], got: String(config.model_type) },
  });
}
