/** @file What a model configuration amounts to: sizes, bytes and operations, before anything is built. */
import {
  countActiveParameters,
  countParameters,
  estimateBytes,
  estimateFlops,
  isSparseLayer,
} from '@moebius/model';
import type { BytesEstimate, FlopsEstimate, ModelConfig } from '@moebius/model';

import { formatBytes, formatCount, formatFlops } from './terminal/format.ts';
import { formatTable } from './terminal/table.ts';

/** Numbers about one layer: its attention, norms and feed-forward. */
export interface LayerCard {
  /** Index. */
  readonly layer: number;
  /** Whether it routes to experts. */
  readonly kind: 'sparse' | 'dense';
  /** All parameters. */
  readonly parameters: number;
  /** Parameters that one token touches. */
  readonly activeParameters: number;
  /** Bytes of its weights, float32. */
  readonly bytes: number;
  /** Operations of its weights for one token, forward; what attention does over the sequence comes on top. */
  readonly flopsPerToken: number;
}

/** Numbers about a model at one batch shape. */
export interface ModelCard {
  /** The configuration. */
  readonly config: ModelConfig;
  /** Sequences of a training batch. */
  readonly batch: number;
  /** Tokens per sequence. */
  readonly sequence: number;
  /** Parameters by where they are; they sum to `parameters`. */
  readonly parts: { readonly [part: string]: number };
  /** One entry per layer. */
  readonly layers: readonly LayerCard[];
  /** All parameters. */
  readonly parameters: number;
  /** Parameters that one token touches. */
  readonly activeParameters: number;
  /** Floating point operations. */
  readonly flops: FlopsEstimate;
  /** Bytes of tensors. */
  readonly bytes: BytesEstimate;
}

/** Computes the numbers; builds nothing. */
export function describeModel(
  config: ModelConfig,
  shape: { readonly batch: number; readonly sequence: number },
): ModelCard {
  return {
    config,
    ...shape,
    parts: countParts(config),
    layers: Array.from({ length: config.num_hidden_layers }, (_, layer) => describeLayer(config, layer)),
    parameters: countParameters(config),
    activeParameters: countActiveParameters(config),
    flops: estimateFlops(config, shape),
    bytes: estimateBytes(config, shape),
  };
}

function describeLayer(config: ModelConfig, layer: number): LayerCard {
  const width = config.hidden_size;
  const heads = config.num_attention_heads + config.num_key_value_heads;
  const attention = 2 * heads * config.head_dim * width;
  const norms = 2 * (width + config.head_dim);
  const isSparse = isSparseLayer(config, layer);
  const expert = 3 * config.moe_intermediate_size * width;
  const router = config.num_experts * width;
  const dense = 3 * config.intermediate_size * width;
  const held = isSparse ? router + config.num_experts * expert : dense;
  const used = isSparse ? router + config.num_experts_per_tok * expert : dense;
  return {
    layer,
    kind: isSparse ? 'sparse' : 'dense',
    parameters: attention + norms + held,
    activeParameters: attention + norms + used,
    bytes: 4 * (attention + norms + held),
    flopsPerToken: 2 * (attention + used),
  };
}

/** Lines of the layers; neighbours that are alike share one. */
function layerRows(layers: readonly LayerCard[]): string[][] {
  const groups: { readonly first: LayerCard; last: number }[] = [];
  for (const card of layers) {
    const open = groups.at(-1);
    const isAlike = open?.first.kind === card.kind && open.first.parameters === card.parameters;
    if (open !== undefined && isAlike) open.last = card.layer;
    else groups.push({ first: card, last: card.layer });
  }
  return groups.map(({ first, last }) => [
    first.layer === last ? `  ${last}` : `  ${first.layer} to ${last}, each`,
    first.kind,
    formatCount(first.parameters),
    formatCount(first.activeParameters),
    formatBytes(first.bytes),
    formatFlops(first.flopsPerToken),
  ]);
}

function countParts(config: ModelConfig): { [part: string]: number } {
  const width = config.hidden_size;
  const layers = Array.from({ length: config.num_hidden_layers }, (_, layer) => isSparseLayer(config, layer));
  const sparse = layers.filter(Boolean).length;
  const heads = config.num_attention_heads + config.num_key_value_heads;
  const embedding = config.vocab_size * width;
  return {
    embedding,
    attention: layers.length * 2 * heads * config.head_dim * width,
    routers: sparse * config.num_experts * width,
    experts: sparse * config.num_experts * 3 * config.moe_intermediate_size * width,
    'dense layers': (layers.length - sparse) * 3 * config.intermediate_size * width,
    norms: layers.length * 2 * (width + config.head_dim) + width,
    'output projection': config.tie_word_embeddings ? 0 : embedding,
  };
}

/** The card as lines. */
export function formatModelCard(card: ModelCard): string[] {
  const { config, bytes, flops, batch, sequence } = card;
  const parts = Object.entries(card.parts).filter(([, count]) => count > 0);
  const share = (count: number): string => `${((100 * count) / card.parameters).toFixed(1)} %`;
  return [
    `${config.model_type}: ${config.num_hidden_layers} layers, width ${config.hidden_size}, ` +
      `${config.num_attention_heads} query and ${config.num_key_value_heads} key/value heads of ${config.head_dim}, ` +
      `${config.num_experts} experts of ${config.moe_intermediate_size} (${config.num_experts_per_tok} per token), ` +
      `vocabulary ${config.vocab_size}`,
    '',
    ...formatTable([
      ['parameters', formatCount(card.parameters), '100.0 %'],
      ['active per token', formatCount(card.activeParameters), share(card.activeParameters)],
      ...parts.map(([part, count]) => [`  ${part}`, formatCount(count), share(count)]),
    ]),
    '',
    ...formatTable([
      ['layer', '', 'parameters', 'active', 'weights', 'per token'],
      ...layerRows(card.layers),
    ]),
    '',
    ...formatTable([
      [`training, ${batch} x ${sequence} tokens`, ''],
      ['  weights', formatBytes(bytes.parameters)],
      ['  gradients', formatBytes(bytes.gradients)],
      ['  optimizer', formatBytes(bytes.optimizer)],
      ['  activations', formatBytes(bytes.activations)],
      ['  logits', formatBytes(bytes.logits)],
      ['  in all', formatBytes(bytes.train)],
      ['  operations per step', formatFlops(flops.train)],
      ['  operations per token', formatFlops(flops.trainPerToken)],
      [`generation, ${sequence} positions`, ''],
      ['  weights and cache', formatBytes(bytes.parameters + bytes.kvCache / batch)],
      ['  operations per token', formatFlops(flops.forwardPerToken)],
    ]),
  ];
}
