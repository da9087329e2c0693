/**
 * @file Every parameter of a model as data: name, shape in memory and in the file, owner unit.
 *
 * This list drives initialisation, loading, saving and counting of the built object. Feed-forward matrices are
 * `[F, D]` in memory (a neuron is a contiguous row); Hugging Face stores the down projection `[D, F]`, so it is
 * turned at the file boundary.
 *
 * Letters: `D` model width · `F` feed-forward width · `E` experts · `V` vocabulary.
 */
import { isSparseLayer, type ModelConfig } from './config.ts';
import { familyOf, type FeedForwardNames, type ModelNames } from './family.ts';

/** One parameter of a model. */
export interface ParameterDescription {
  /** Its id: the tensor's name in a Hugging Face file. */
  readonly id: string;
  /** Shape in memory. */
  readonly shape: readonly number[];
  /** Whether the file holds it transposed. */
  readonly transposed: boolean;
  /** How it starts: ones, or normal with `initializer_range`. */
  readonly role: 'norm' | 'embedding' | 'matrix';
  /** What moves together: `embedding`, `layers.3`, `layers.3.experts.7`, `head`. */
  readonly unit: string;
}

/**
 * Lists every parameter in a fixed order: embedding, layers from the first, last norm, head.
 *
 * @param config - the model
 * @returns one description per tensor; a tied head is not listed
 */
export function describeParameters(config: ModelConfig): readonly ParameterDescription[] {
  const { names } = familyOf(config);
  const { hidden_size: width, vocab_size: vocabulary } = config;
  const list: ParameterDescription[] = [
    matrix(names.embedding, [vocabulary, width], 'embedding', 'embedding'),
  ];
  for (let layer = 0; layer < config.num_hidden_layers; layer += 1)
    list.push(...describeLayer(config, names, layer));
  list.push(norm(names.finalNorm, width, 'head'));
  if (!config.tie_word_embeddings) list.push(matrix(names.head, [vocabulary, width], 'head'));
  return list;
}

function describeLayer(config: ModelConfig, names: ModelNames, layer: number): ParameterDescription[] {
  const { hidden_size: width, head_dim: head } = config;
  const unit = `layers.${layer}`;
  const own = names.layer(layer);
  const queryWidth = config.num_attention_heads * head;
  const keyWidth = config.num_key_value_heads * head;
  const attention = [
    norm(own.inputNorm, width, unit),
    matrix(own.query, [queryWidth, width], unit),
    matrix(own.key, [keyWidth, width], unit),
    matrix(own.value, [keyWidth, width], unit),
    norm(own.queryNorm, head, unit),
    norm(own.keyNorm, head, unit),
    matrix(own.output, [width, queryWidth], unit),
    norm(own.postAttentionNorm, width, unit),
  ];
  if (!isSparseLayer(config, layer)) {
    return [...attention, ...feedForward(names.dense(layer), [config.intermediate_size, width], unit)];
  }
  const experts = Array.from({ length: config.num_experts }, (_, expert) =>
    feedForward(
      names.expert(layer, expert),
      [config.moe_intermediate_size, width],
      `${unit}.experts.${expert}`,
    ),
  );
  return [...attention, matrix(names.router(layer), [config.num_experts, width], unit), ...experts.flat()];
}

function feedForward(
  names: FeedForwardNames,
  shape: readonly number[],
  unit: string,
): ParameterDescription[] {
  return [
    matrix(names.gate, shape, unit),
    matrix(names.up, shape, unit),
    { ...matrix(names.down, shape, unit), transposed: true },
  ];
}

function norm(id: string, width: number, unit: string): ParameterDescription {
  return { id, shape: [width], transposed: false, role: 'norm', unit };
}

function matrix(
  id: string,
  shape: readonly number[],
  unit: string,
  role: 'embedding' | 'matrix' = 'matrix',
): ParameterDescription {
  return { id, shape, transposed: false, role, unit };
}

/**
 * The shape a parameter has in a file.
 *
 * @param description - one entry of {@link describeParameters}
 */
export function fileShape(description: ParameterDescription): readonly number[] {
  return description.transposed ? [...description.shape].toReversed() : description.shape;
}
