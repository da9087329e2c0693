/** @file What a model configuration amounts to: sizes, bytes and operations, before anything is built. */
import {
  countActiveParameters,
  countParameters,
  describeParameters,
  estimateBytes,
  estimateFlops,
  resolveParts,
} from '@moebius/model';
import type {
  BytesEstimate,
  FlopsEstimate,
  ModelConfig,
  ParameterDescription,
  PartsChoice,
} from '@moebius/model';
import type { Router } from '@moebius/routing';

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

/**
 * Computes the numbers; builds nothing.
 *
 * @param choice - plug-ins with the routers and kinds of experts that the configuration names
 */
export function describeModel(
  config: ModelConfig,
  shape: { readonly batch: number; readonly sequence: number },
  choice: PartsChoice = {},
): ModelCard {
  const parts = resolveParts(config, choice);
  const tensors = describeParameters(config, parts).filter(({ role }) => role !== 'buffer');
  return {
    config,
    ...shape,
    parts: countParts(tensors),
    layers: parts.routers.map((router, layer) => {
      const own = tensors.filter(
        ({ unit }) => unit === `layers.${layer}` || unit.startsWith(`layers.${layer}.`),
      );
      return describeLayer(own, { layer, router });
    }),
    parameters: countParameters(config, parts),
    activeParameters: countActiveParameters(config, parts),
    flops: estimateFlops(config, shape, parts),
    bytes: estimateBytes(config, shape, parts),
  };
}

type Tensors = readonly ParameterDescription[];

interface Layer {
  readonly layer: number;
  readonly router: Router | null;
}

function describeLayer(own: Tensors, { layer, router }: Layer): LayerCard {
  const matrices = own.filter(({ shape }) => shape.length > 1);
  return {
    layer,
    kind: router === null ? 'dense' : 'sparse',
    parameters: sizeOf(own),
    activeParameters: activeSizeOf(own, router),
    bytes: 4 * sizeOf(own),
    flopsPerToken: 2 * activeSizeOf(matrices, router),
  };
}

/** What one token touches: all but the experts, and of those `topK` of mean size. */
function activeSizeOf(tensors: Tensors, router: Router | null): number {
  const experts = sizeOf(tensors.filter((tensor) => partOf(tensor) === 'experts'));
  const used = router === null ? 0 : Math.round((experts * router.topK) / router.experts);
  return sizeOf(tensors) - experts + used;
}

function sizeOf(tensors: Tensors): number {
  return tensors.reduce((sum, { shape }) => sum + shape.reduce((product, length) => product * length, 1), 0);
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

const partNames = [
  'embedding',
  'attention',
  'routers',
  'experts',
  'dense layers',
  'norms',
  'output projection',
] as const;

function partOf({ id, role, unit }: ParameterDescription): (typeof partNames)[number] {
  if (role === 'norm') return 'norms';
  if (role === 'embedding') return 'embedding';
  if (unit === 'head') return 'output projection';
  if (unit.includes('.experts.')) return 'experts';
  if (id.includes('.self_attn.')) return 'attention';
  return id.includes('.mlp.gate.') ? 'routers' : 'dense layers';
}

function countParts(tensors: Tensors): { [part: string]: number } {
  return Object.fromEntries(
    partNames.map((part) => [part, sizeOf(tensors.filter((tensor) => partOf(tensor) === part))]),
  );
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
