/**
 * @file The model's configuration: Hugging Face's config.json of type `qwen3_moe`, key for key, or of its dense relative `qwen3`.
 *
 * Reading accepts the files of transformers 4 (`num_experts`, `rope_theta`, `torch_dtype`) and 5
 * (`num_local_experts`, `rope_parameters`, `dtype`); writing gives keys both read. Sizes have no defaults: a class
 * default is not the checkpoint's value. Everything else has the default of the Hugging Face class.
 * All faults of a file are reported at once. A config.json is hostile input: sizes have limits.
 */
import { createFaultList, type FaultList } from './config-faults.ts';
import { familyOf, supportedModelTypes } from './family.ts';
import { type ModelExtension, readExtension } from './model-extension.ts';

/** The configuration of a decoder language model. Keys are those of Hugging Face's config.json. */
export interface ModelConfig {
  /** Family: decides the gate and the tensor names. `qwen3` has no experts. */
  readonly model_type: 'qwen3_moe' | 'qwen3';
  /** V: entries of the vocabulary. */
  readonly vocab_size: number;
  /** D: width of the residual stream. */
  readonly hidden_size: number;
  /** Width of the dense layers' feed-forward; unused when every layer is sparse. */
  readonly intermediate_size: number;
  /** L: number of layers. */
  readonly num_hidden_layers: number;
  /** H: query heads of a layer. */
  readonly num_attention_heads: number;
  /** J: every H / J query heads share one key/value head. */
  readonly num_key_value_heads: number;
  /** C: width of a head, even. Need not be D / H. */
  readonly head_dim: number;
  /** Activation of the gated feed-forward. */
  readonly hidden_act: 'silu';
  /** Positions the rotary table is made for. */
  readonly max_position_embeddings: number;
  /** Standard deviation of initial weights. */
  readonly initializer_range: number;
  /** Epsilon of every norm. */
  readonly rms_norm_eps: number;
  /** Whether the output projection is the embedding. */
  readonly tie_word_embeddings: boolean;
  /** Base of the rotary frequencies. */
  readonly rope_theta: number;
  /** Layer l is sparse when (l + 1) is divisible by this. */
  readonly decoder_sparse_step: number;
  /** Layers that are dense all the same. */
  readonly mlp_only_layers: readonly number[];
  /** F: inner width of one expert. */
  readonly moe_intermediate_size: number;
  /** E: experts of a sparse layer. Zero makes every layer dense. */
  readonly num_experts: number;
  /** K: experts that each token is routed to. */
  readonly num_experts_per_tok: number;
  /** Whether the K weights of a token are divided by their sum. */
  readonly norm_topk_prob: boolean;
  /** Coefficient of the load-balance loss. */
  readonly router_aux_loss_coef: number;
  /** Whether a loss includes the load-balance loss by default. */
  readonly output_router_logits: boolean;
  /** First token of a text, or null. */
  readonly bos_token_id: number | null;
  /** Tokens that end generation. */
  readonly eos_token_id: number | readonly number[] | null;
  /** Padding token, or null. */
  readonly pad_token_id: number | null;
  /** Routers and kinds of experts that are not the family's own, by name; Hugging Face ignores it. */
  readonly moebius?: ModelExtension;
}

// Hostile files: the largest published model is 10x below each limit; beyond it an allocation would be the first sign.
const limits = {
  vocab_size: 16_777_216,
  hidden_size: 1_048_576,
  intermediate_size: 4_194_304,
  num_hidden_layers: 4096,
  heads: 65_536,
  head_dim: 65_536,
  num_experts: 65_536,
  // Every expert is listed by name before a file is compared with it; the largest published model has 16,000.
  experts_of_all_layers: 1_048_576,
  max_position_embeddings: 134_217_728,
} as const;

/**
 * Validates a parsed config.json and fills defaults.
 *
 * @param value - what `JSON.parse` gave
 * @param subject - how messages call it, for example the file's path
 * @returns a frozen configuration
 * @throws `configuration` with all faults, in the message and in `details.faults`
 *
 * @example
 * ```ts
 * const config = parseModelConfig({
 *   model_type: 'qwen3_moe', vocab_size: 512, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4,
 *   num_key_value_heads: 2, moe_intermediate_size: 32, num_experts: 8, num_experts_per_tok: 2,
 * });
 * ```
 */
export function parseModelConfig(value: unknown, subject = 'config.json'): ModelConfig {
  const faults = createFaultList(subject, value);
  const type = faults.raw('model_type');
  if (typeof type !== 'string' || !supportedModelTypes.includes(type)) {
    faults.add(
      'model_type',
      `must be one of ${supportedModelTypes.join(', ')}`,
      type,
      'other families cannot be read',
    );
  }
  const moebius = readExtension(faults);
  const config: ModelConfig = {
    model_type: type === 'qwen3' ? 'qwen3' : 'qwen3_moe',
    ...readSizes(faults),
    ...readExperts(faults),
    ...readNumerics(faults),
    ...readTokens(faults),
    ...(moebius === undefined ? {} : { moebius }),
  };
  refuseUnsupported(faults);
  if (faults.none()) checkRelations(faults, config);
  faults.throwIfAny();
  return Object.freeze(config);
}

type Sizes = Pick<
  ModelConfig,
  | 'vocab_size'
  | 'hidden_size'
  | 'num_hidden_layers'
  | 'num_attention_heads'
  | 'num_key_value_heads'
  | 'head_dim'
  | 'max_position_embeddings'
>;

function readSizes(faults: FaultList): Sizes {
  const hidden_size = faults.integer('hidden_size', { max: limits.hidden_size });
  const num_attention_heads = faults.integer('num_attention_heads', { max: limits.heads });
  return {
    vocab_size: faults.integer('vocab_size', { max: limits.vocab_size }),
    hidden_size,
    num_hidden_layers: faults.integer('num_hidden_layers', { max: limits.num_hidden_layers }),
    num_attention_heads,
    num_key_value_heads: faults.integer('num_key_value_heads', { max: limits.heads }),
    head_dim: faults.integer('head_dim', {
      max: limits.head_dim,
      fallback: Math.max(1, Math.floor(hidden_size / num_attention_heads)),
    }),
    max_position_embeddings: faults.integer('max_position_embeddings', {
      max: limits.max_position_embeddings,
      fallback: 32_768,
    }),
  };
}

type Experts = Pick<
  ModelConfig,
  | 'num_experts'
  | 'num_experts_per_tok'
  | 'moe_intermediate_size'
  | 'intermediate_size'
  | 'decoder_sparse_step'
  | 'mlp_only_layers'
  | 'norm_topk_prob'
  | 'router_aux_loss_coef'
  | 'output_router_logits'
>;

function readExperts(faults: FaultList): Experts {
  const old = faults.raw('num_experts');
  const current = faults.raw('num_local_experts');
  if (old !== undefined && current !== undefined && old !== current) {
    faults.add(
      'num_local_experts',
      `must equal num_experts ${String(old)}`,
      current,
      'keep one of the two keys',
    );
  }
  const key = old === undefined && current !== undefined ? 'num_local_experts' : 'num_experts';
  const isQwen3 = faults.raw('model_type') === 'qwen3';
  const num_experts = faults.integer(
    key,
    isQwen3 ? { min: 0, max: 0, fallback: 0 } : { min: 0, max: limits.num_experts },
  );
  const dense = num_experts === 0;
  const width = { max: limits.intermediate_size };
  return {
    num_experts,
    num_experts_per_tok: faults.integer('num_experts_per_tok', {
      max: limits.num_experts,
      ...(dense ? { fallback: 1 } : {}),
    }),
    moe_intermediate_size: faults.integer('moe_intermediate_size', dense ? { ...width, fallback: 1 } : width),
    intermediate_size: faults.integer('intermediate_size', {
      ...width,
      ...(hasDenseLayer(faults, dense) ? {} : { fallback: 4 * integerOr(faults.raw('hidden_size'), 1) }),
    }),
    decoder_sparse_step: faults.integer('decoder_sparse_step', {
      max: limits.num_hidden_layers,
      fallback: 1,
    }),
    mlp_only_layers: faults.integers('mlp_only_layers', { max: limits.num_hidden_layers, fallback: [] }),
    norm_topk_prob: faults.boolean('norm_topk_prob', false),
    router_aux_loss_coef: faults.number('router_aux_loss_coef', { min: 0, fallback: 0.001 }),
    output_router_logits: faults.boolean('output_router_logits', false),
  };
}

/** Whether the raw file asks for a dense layer, so that `intermediate_size` has no default. */
function hasDenseLayer(faults: FaultList, noExperts: boolean): boolean {
  const listed = faults.raw('mlp_only_layers');
  const step = integerOr(faults.raw('decoder_sparse_step'), 1);
  return noExperts || step > 1 || (Array.isArray(listed) && listed.length > 0);
}

function integerOr(value: unknown, fallback: number): number {
  return typeof value === 'number' && Number.isInteger(value) ? value : fallback;
}

type Numerics = Pick<
  ModelConfig,
  'hidden_act' | 'initializer_range' | 'rms_norm_eps' | 'tie_word_embeddings' | 'rope_theta'
>;

function readNumerics(faults: FaultList): Numerics {
  const activation = faults.raw('hidden_act') ?? 'silu';
  if (activation !== 'silu') faults.add('hidden_act', 'must be "silu"', activation);
  return {
    hidden_act: 'silu',
    initializer_range: faults.number('initializer_range', { min: 0, fallback: 0.02 }),
    rms_norm_eps: faults.number('rms_norm_eps', { min: 0, fallback: 1e-6 }),
    tie_word_embeddings: faults.boolean('tie_word_embeddings', false),
    rope_theta: readRopeTheta(faults),
  };
}

/** `rope_theta` (transformers 4) or `rope_parameters.rope_theta` (5); only the unscaled rotary table is supported. */
function readRopeTheta(faults: FaultList): number {
  const old = faults.raw('rope_theta');
  for (const key of ['rope_parameters', 'rope_scaling']) {
    const value = faults.raw(key);
    if (value === undefined || value === null) continue;
    if (typeof value !== 'object' || Array.isArray(value)) {
      faults.add(key, 'must be an object', value);
      continue;
    }
    const fields = value as { rope_type?: unknown; type?: unknown; rope_theta?: unknown };
    const type = fields.rope_type ?? fields.type ?? 'default';
    if (type !== 'default')
      faults.add(`${key}.rope_type`, 'must be "default"', type, 'scaled RoPE cannot be read');
    const theta = fields.rope_theta;
    if (theta === undefined) continue;
    if (typeof theta !== 'number' || !Number.isFinite(theta) || theta <= 0) {
      faults.add(`${key}.rope_theta`, 'must be a positive number', theta);
    } else if (old !== undefined && old !== null && old !== theta) {
      faults.add(
        `${key}.rope_theta`,
        `must equal rope_theta ${String(old)}`,
        theta,
        'keep one of the two keys',
      );
    } else return theta;
  }
  return faults.number('rope_theta', { min: Number.MIN_VALUE, fallback: 10_000 });
}

type Tokens = Pick<ModelConfig, 'bos_token_id' | 'eos_token_id' | 'pad_token_id'>;

function readTokens(faults: FaultList): Tokens {
  const max = limits.vocab_size;
  const eos = faults.raw('eos_token_id');
  return {
    bos_token_id: faults.optionalInteger('bos_token_id', max),
    eos_token_id: Array.isArray(eos)
      ? faults.integers('eos_token_id', { max, fallback: [] })
      : faults.optionalInteger('eos_token_id', max),
    pad_token_id: faults.optionalInteger('pad_token_id', max),
  };
}

/** What the file may ask for and this package does not do: better refused than silently different. */
function refuseUnsupported(faults: FaultList): void {
  const expected = { attention_bias: false, use_sliding_window: false, attention_dropout: 0 } as const;
  for (const [key, wanted] of Object.entries(expected)) {
    const value = faults.raw(key);
    if (value === undefined || value === null || value === wanted) continue;
    faults.add(key, `must be ${String(wanted)}`, value, 'not supported');
  }
}

function checkRelations(faults: FaultList, config: ModelConfig): void {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, num_experts: experts } = config;
  if (heads % kvHeads !== 0) {
    faults.add('num_key_value_heads', `must divide num_attention_heads ${heads}`, kvHeads);
  }
  if (config.head_dim % 2 !== 0) faults.add('head_dim', 'must be even, RoPE turns pairs', config.head_dim);
  if (experts > 0 && config.num_experts_per_tok > experts) {
    faults.add(
      'num_experts_per_tok',
      `must be at most num_experts ${experts}`,
      config.num_experts_per_tok,
      'raise num_experts or lower num_experts_per_tok',
    );
  }
  const all = experts * config.num_hidden_layers;
  if (all > limits.experts_of_all_layers) {
    faults.add('num_experts', `times num_hidden_layers must be at most ${limits.experts_of_all_layers}`, all);
  }
  for (const layer of config.mlp_only_layers) {
    if (layer >= config.num_hidden_layers) {
      faults.add(
        'mlp_only_layers',
        `must list layers below num_hidden_layers ${config.num_hidden_layers}`,
        layer,
      );
    }
  }
  for (const key of ['bos_token_id', 'eos_token_id', 'pad_token_id'] as const) {
    for (const id of [config[key] ?? []].flat()) {
      if (id >= config.vocab_size) faults.add(key, `must be below vocab_size ${config.vocab_size}`, id);
    }
  }
}

/**
 * Whether a layer routes to experts: (layer + 1) divisible by `decoder_sparse_step`, and not in `mlp_only_layers`.
 *
 * @param config - the model
 * @param layer - index from 0
 */
export function isSparseLayer(config: ModelConfig, layer: number): boolean {
  if (config.num_experts === 0 || config.mlp_only_layers.includes(layer)) return false;
  return (layer + 1) % config.decoder_sparse_step === 0;
}

/**
 * The configuration as the config.json that Hugging Face transformers 4 and 5 read.
 *
 * @param config - the model
 * @param dtype - how the weights beside it are stored
 */
export function modelConfigToJson(
  config: ModelConfig,
  dtype = 'float32',
): { readonly [key: string]: unknown } {
  const { mlp_only_layers, ...others } = config;
  const own =
    config.model_type === 'qwen3'
      ? withoutExperts(others)
      : { ...others, mlp_only_layers: [...mlp_only_layers] };
  return {
    architectures: [familyOf(config).architecture],
    ...own,
    attention_bias: false,
    attention_dropout: 0,
    sliding_window: null,
    use_sliding_window: false,
    rope_parameters: { rope_type: 'default', rope_theta: config.rope_theta },
    use_cache: true,
    dtype,
    torch_dtype: dtype,
  };
}

/** A dense family's file does not speak of experts. */
function withoutExperts(config: Omit<ModelConfig, 'mlp_only_layers'>): { readonly [key: string]: unknown } {
  const experts: readonly string[] = [
    'num_experts',
    'num_experts_per_tok',
    'moe_intermediate_size',
    'norm_topk_prob',
    'decoder_sparse_step',
    'router_aux_loss_coef',
    'output_router_logits',
  ];
  return Object.fromEntries(Object.entries(config).filter(([key]) => !experts.includes(key)));
}
