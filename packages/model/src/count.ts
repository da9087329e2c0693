/**
 * @file How large and how expensive a configuration is, as closed formulas: nothing is built.
 *
 * All results are integers. Parameters are counted once (a tied head adds none). Floating point operations are
 * those of the matrix products, 2·m·n·k each, and of causal attention (only the positions a query may see); norms,
 * activations, RoPE and softmax are not counted (below 2 % from D = 256 on). A training step is three forward
 * passes: backward makes two products of each one.
 *
 * Letters: `B` batch · `S` sequence · `D` model width · `F` expert width · `E` experts · `K` top-k · `H` query heads ·
 * `J` key/value heads · `C` head width · `V` vocabulary · `L` layers.
 */
import type { ExpertKind, Router } from '@moebius/routing';
import { countExpertParameters, partShape } from '@moebius/routing';

import { isSparseLayer, type ModelConfig } from './config.ts';
import { type ModelParts, type PartsSource, resolveParts } from './model-parts.ts';
import { sharedPartsOf } from './shared-parts.ts';

const floatBytes = 4;

/**
 * How many parameters the model has. A tied head is counted once.
 *
 * @param config - the model
 * @param choice - routers and kinds of experts, when they are not the family's own
 */
export function countParameters(config: ModelConfig, choice: PartsSource = {}): number {
  return sumParameters(config, config.num_experts) + extraWeights(config, choice, 'all');
}

/**
 * How many parameters one token touches: of each sparse layer its router and `num_experts_per_tok` experts.
 * Both embeddings are included, as in the published "A3B" style counts.
 *
 * @param config - the model
 * @param choice - routers and kinds of experts, when they are not the family's own; of these the mean is taken
 */
export function countActiveParameters(config: ModelConfig, choice: PartsSource = {}): number {
  return sumParameters(config, config.num_experts_per_tok) + extraWeights(config, choice, 'active');
}

/** What {@link estimateFlops} is asked for. */
export interface FlopsQuery {
  /** Sequences. Default 1. */
  readonly batch?: number;
  /** New tokens per sequence. */
  readonly sequence: number;
  /** Tokens already in the KV cache (decoding). Default 0. */
  readonly past?: number;
}

/** Floating point operations, integers. */
export interface FlopsEstimate {
  /** One forward pass over the whole batch. */
  readonly forward: number;
  /** Forward and backward over the whole batch: three times `forward`. */
  readonly train: number;
  /** `forward` divided by the tokens of the batch, rounded. */
  readonly forwardPerToken: number;
  /** `train` divided by the tokens of the batch, rounded. */
  readonly trainPerToken: number;
}

/**
 * Floating point operations of matrix products and causal attention.
 *
 * @param config - the model
 * @param query - batch, new tokens per sequence and cached tokens
 * @param choice - as for {@link countActiveParameters}; a weight is taken to cost two operations a token
 */
export function estimateFlops(
  config: ModelConfig,
  query: FlopsQuery,
  choice: PartsSource = {},
): FlopsEstimate {
  const { batch = 1, sequence, past = 0 } = query;
  const tokens = batch * sequence;
  const visiblePairs = batch * (sequence * past + (sequence * (sequence + 1)) / 2);
  const attentionPerPair = 4 * config.num_attention_heads * config.head_dim;
  const weights = matrixWeights(config, config.num_experts_per_tok) + extraWeights(config, choice, 'active');
  const forward = 2 * tokens * weights + config.num_hidden_layers * attentionPerPair * visiblePairs;
  return {
    forward,
    train: 3 * forward,
    forwardPerToken: Math.round(forward / tokens),
    trainPerToken: Math.round((3 * forward) / tokens),
  };
}

/** What {@link estimateBytes} is asked for. */
export interface BytesQuery {
  /** Sequences. Default 1. */
  readonly batch?: number;
  /** Tokens per sequence; for a cache, the positions it has room for. */
  readonly sequence: number;
}

/** Bytes of tensors, all float32, integers. */
export interface BytesEstimate {
  /** Weights. */
  readonly parameters: number;
  /** Gradients of one step, when all of them are alive. */
  readonly gradients: number;
  /** Both moments of AdamW. */
  readonly optimizer: number;
  /** What forward saves for backward (native kernels), without the loss. */
  readonly activations: number;
  /** Logits and their gradient. */
  readonly logits: number;
  /** A KV cache with room for `sequence` positions of each of `batch` sequences. */
  readonly kvCache: number;
  /** Everything a training step holds: all of the above but the cache. */
  readonly train: number;
  /** Everything generation holds: weights and cache. */
  readonly generate: number;
}

/**
 * Bytes that training and generation hold in tensors. Tokens counts are exact for dropless top-k routing.
 *
 * @param config - the model
 * @param query - batch and sequence
 * @param choice - as for {@link countParameters}; activations stay those of the family's own parts
 */
export function estimateBytes(
  config: ModelConfig,
  query: BytesQuery,
  choice: PartsSource = {},
): BytesEstimate {
  const { batch = 1, sequence } = query;
  const tokens = batch * sequence;
  const parameters = floatBytes * countParameters(config, choice);
  const logits = 2 * floatBytes * tokens * config.vocab_size;
  const activations = tokens * savedBytesPerToken(config) + planBytes(config, tokens);
  const keyWidth = config.num_key_value_heads * config.head_dim;
  const kvCache = floatBytes * 2 * config.num_hidden_layers * batch * sequence * keyWidth;
  return {
    parameters,
    gradients: parameters,
    optimizer: 2 * parameters,
    activations,
    logits,
    kvCache,
    train: 4 * parameters + activations + logits,
    generate: parameters + kvCache,
  };
}

/** Parameters with `experts` of each sparse layer's experts counted. */
function sumParameters(config: ModelConfig, experts: number): number {
  const norms =
    config.num_hidden_layers * (2 * config.hidden_size + 2 * config.head_dim) + config.hidden_size;
  const embedding = config.vocab_size * config.hidden_size;
  const head = config.tie_word_embeddings ? 0 : embedding;
  return embedding + norms + layerWeights(config, experts) + head;
}

/** Weights that take part in matrix products: everything but the norms and the embedding, the head always. */
function matrixWeights(config: ModelConfig, experts: number): number {
  return layerWeights(config, experts) + config.vocab_size * config.hidden_size;
}

/** Matrices of all layers: attention, routers, `experts` experts of each sparse layer, dense feed-forwards. */
function layerWeights(config: ModelConfig, experts: number): number {
  const { hidden_size: width, num_hidden_layers: layers } = config;
  const queryWidth = config.num_attention_heads * config.head_dim;
  const keyWidth = config.num_key_value_heads * config.head_dim;
  const sparse = countSparseLayers(config);
  const attention = layers * width * (2 * queryWidth + 2 * keyWidth);
  const moe = sparse * width * (config.num_experts + 3 * experts * config.moe_intermediate_size);
  const dense = (layers - sparse) * 3 * width * config.intermediate_size;
  return attention + moe + dense;
}

/**
 * Weights that other routers and kinds of experts have beyond the family's own: of all experts, or of as many as the
 * router gives a token.
 */
function extraWeights(config: ModelConfig, choice: PartsSource, which: 'all' | 'active'): number {
  if (Object.keys(choice).length === 0 && config.moebius === undefined) return 0;
  const parts: ModelParts = resolveParts(config, choice);
  const usual = config.num_experts * config.hidden_size;
  return parts.routers.reduce((sum, router, layer) => {
    if (router === null) return sum;
    const kinds = parts.experts[layer] ?? [];
    const experts = which === 'all' ? config.num_experts : router.topK;
    const before = which === 'all' ? config.num_experts : config.num_experts_per_tok;
    const own = Math.round(experts * meanExpertWeights(config, kinds));
    const gated = 3 * before * config.moe_intermediate_size * config.hidden_size;
    return (
      sum +
      routerWeights(config, router) -
      usual +
      own -
      gated +
      sharedBaseWeights(config, kinds) +
      sharedWeights(config, layer)
    );
  }, 0);
}

function routerWeights(config: ModelConfig, router: Router): number {
  return Object.values(router.parameterShapes(config.hidden_size)).reduce(
    (sum, shape) => sum + shape.reduce((size, axis) => size * axis, 1),
    0,
  );
}

/** Of the shared expert and what joins it: every token uses them. */
function sharedWeights(config: ModelConfig, layer: number): number {
  const shared = sharedPartsOf(config, layer);
  if (shared === null) return 0;
  const gate = Object.values(shared.combiner.parameterShapes(config.hidden_size));
  const length = (shape: readonly number[]): number => shape.reduce((size, axis) => size * axis, 1);
  return (
    countExpertParameters(shared.kind, shared.size) + gate.reduce((sum, shape) => sum + length(shape), 0)
  );
}

/** What experts of a layer stand on together: every token uses it. */
function sharedBaseWeights(config: ModelConfig, kinds: readonly ExpertKind[]): number {
  const size = { modelWidth: config.hidden_size, hiddenWidth: config.moe_intermediate_size };
  const parts: { [part: string]: number } = {};
  for (const { base } of kinds) {
    if (base?.scope !== 'layer') continue;
    for (const part of Object.keys(base.kind.parts))
      parts[part] ??= partShape(base.kind, part, size).reduce((product, length) => product * length, 1);
  }
  return Object.values(parts).reduce((sum, length) => sum + length, 0);
}

function meanExpertWeights(config: ModelConfig, kinds: readonly ExpertKind[]): number {
  const size = { modelWidth: config.hidden_size, hiddenWidth: config.moe_intermediate_size };
  const total = kinds.reduce((sum, kind) => sum + countExpertParameters(kind, size), 0);
  return total / Math.max(1, kinds.length);
}

function countSparseLayers(config: ModelConfig): number {
  return Array.from({ length: config.num_hidden_layers }, (_, layer) => layer).filter((layer) =>
    isSparseLayer(config, layer),
  ).length;
}
/**
 * Bytes saved for backward per token, with the native kernels: the inputs of every norm and product once each, q, k
 * and v before and after RoPE, the reciprocal norms, the gate's probabilities, and g and u of every routed row.
 */
function savedBytesPerToken(config: ModelConfig): number {
  const {
    hidden_size: width,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: head,
  } = config;
  const { num_experts: experts, num_experts_per_tok: topK } = config;
  const attention = 2 * width + 1 + 3 * heads * head + 3 * kvHeads * head + 2 * heads + kvHeads;
  const gate = 2 * experts + (config.norm_topk_prob ? experts + 1 : 0);
  const chosenBytes = config.norm_topk_prob ? experts : 0;
  const sparse = 2 * width + 1 + gate + topK * (1 + 2 * config.moe_intermediate_size);
  const dense = 2 * width + 1 + 2 * config.intermediate_size;
  const sparseLayers = countSparseLayers(config);
  const denseLayers = config.num_hidden_layers - sparseLayers;
  const floats =
    config.num_hidden_layers * attention + sparseLayers * sparse + denseLayers * dense + 2 * width + 1;
  return floatBytes * floats + sparseLayers * chosenBytes;
}

/** Bytes of the dispatch plans that are kept on the device: both groupings of the routed pairs of each sparse layer. */
function planBytes(config: ModelConfig, tokens: number): number {
  const pairs = tokens * config.num_experts_per_tok;
  return 4 * countSparseLayers(config) * (2 * pairs + tokens + 1 + config.num_experts + 1);
}
