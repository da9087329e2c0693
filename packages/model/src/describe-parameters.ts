/**
 * @file Every parameter of a model as data: name, shape in memory and in the file, owner unit.
 *
 * This list drives initialisation, loading, saving and counting of the built object. Feed-forward matrices are
 * `[F, D]` in memory (a neuron is a contiguous row); Hugging Face stores the down projection `[D, F]`, so it is
 * turned at the file boundary.
 *
 * Letters: `D` model width · `F` feed-forward width · `E` experts · `V` vocabulary.
 */
import { type ExpertKind, type InitialRequest, partShape, type Router } from '@moebius/routing';

import { isSparseLayer, type ModelConfig } from './config.ts';
import { familyOf, type FeedForwardNames, type ModelNames } from './family.ts';
import { type ModelParts, type PartsSource, resolveParts } from './model-parts.ts';
import { sharedPartsOf } from './shared-parts.ts';
import { basePartId } from './sparse-names.ts';

/** One parameter of a model. */
export interface ParameterDescription {
  /** Its id: the tensor's name in a Hugging Face file. */
  readonly id: string;
  /** Shape in memory. */
  readonly shape: readonly number[];
  /** Whether the file holds it transposed. */
  readonly transposed: boolean;
  /** How it starts: ones, normal with `initializer_range`, or zeros (`vector`); `buffer` is not trained. */
  readonly role: 'norm' | 'embedding' | 'matrix' | 'vector' | 'buffer';
  /** What moves together: `embedding`, `layers.3`, `layers.3.experts.7`, `head`. */
  readonly unit: string;
  /** First values of a plug-in's own making, instead of those of `role`. */
  readonly initialise?: (request: InitialRequest) => Float32Array;
}

/**
 * Lists every parameter in a fixed order: embedding, layers from the first, last norm, head.
 *
 * @param config - the model
 * @param choice - routers and kinds of experts, when they are not the family's own
 * @returns one description per tensor; a tied head is not listed
 */
export function describeParameters(
  config: ModelConfig,
  choice: PartsSource = {},
): readonly ParameterDescription[] {
  return describeTensors(config, resolveParts(config, choice));
}

/** {@link describeParameters} of parts that are already found. */
export function describeTensors(config: ModelConfig, parts: ModelParts): readonly ParameterDescription[] {
  const { names } = familyOf(config);
  const { hidden_size: width, vocab_size: vocabulary } = config;
  const list: ParameterDescription[] = [
    matrix(names.embedding, [vocabulary, width], 'embedding', 'embedding'),
  ];
  for (let layer = 0; layer < config.num_hidden_layers; layer += 1)
    list.push(...describeLayer(config, { names, parts, layer }));
  list.push(norm(names.finalNorm, width, 'head'));
  if (!config.tie_word_embeddings) list.push(matrix(names.head, [vocabulary, width], 'head'));
  return list;
}

interface LayerScope {
  readonly names: ModelNames;
  readonly parts: ModelParts;
  readonly layer: number;
}

function describeLayer(config: ModelConfig, scope: LayerScope): ParameterDescription[] {
  const { names, parts, layer } = scope;
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
  const router = parts.routers[layer];
  const routed = router == null ? [] : describeRouterTensors(config, scope, router);
  const experts = (parts.experts[layer] ?? []).flatMap((kind, expert) => [
    ...describeBase(config, scope, { kind, expert }),
    ...describeExpert(config, scope, { kind, expert }),
  ]);
  // What several experts stand on is listed once.
  const listed = new Map(experts.map((entry) => [entry.id, entry]));
  return [...attention, ...routed, ...listed.values(), ...describeShared(config, scope)];
}

function describeRouterTensors(
  config: ModelConfig,
  { names, layer }: LayerScope,
  router: Router,
): ParameterDescription[] {
  const { initialise } = router;
  return Object.entries(router.parameterShapes(config.hidden_size)).map(([name, shape]) => ({
    ...(shape.length > 1
      ? matrix(names.routerTensor(layer, name), shape, `layers.${layer}`)
      : vector(names.routerTensor(layer, name), shape, `layers.${layer}`)),
    ...(initialise === undefined
      ? {}
      : { initialise: (request: InitialRequest) => initialise.call(router, name, request) }),
  }));
}

function describeExpert(
  config: ModelConfig,
  { names, layer }: LayerScope,
  { kind, expert }: { readonly kind: ExpertKind; readonly expert: number },
): ParameterDescription[] {
  const size = { modelWidth: config.hidden_size, hiddenWidth: config.moe_intermediate_size };
  const unit = `layers.${layer}.experts.${expert}`;
  return Object.keys(kind.parts).map((part) =>
    describePart(kind, part, {
      id: names.expertPart(layer, expert, part),
      shape: partShape(kind, part, size),
      unit,
    }),
  );
}

/** The frozen parts that an expert stands on. */
function describeBase(
  config: ModelConfig,
  { layer }: LayerScope,
  { kind, expert }: { readonly kind: ExpertKind; readonly expert: number },
): ParameterDescription[] {
  const { base } = kind;
  if (base === undefined) return [];
  const size = { modelWidth: config.hidden_size, hiddenWidth: config.moe_intermediate_size };
  const unit = base.scope === 'layer' ? `layers.${layer}` : `layers.${layer}.experts.${expert}`;
  return Object.keys(base.kind.parts).map((part) =>
    describePart(base.kind, part, {
      id: basePartId(config, { layer, expert, part }, base),
      shape: partShape(base.kind, part, size),
      unit,
    }),
  );
}

/** The shared expert, and what joins it with the routed ones. */
function describeShared(config: ModelConfig, { names, layer }: LayerScope): ParameterDescription[] {
  const shared = sharedPartsOf(config, layer);
  if (shared === null) return [];
  const { kind, size, combiner } = shared;
  const unit = `layers.${layer}`;
  const parts = Object.keys(kind.parts).map((part) =>
    describePart(kind, part, {
      id: names.sharedPart(layer, part),
      shape: partShape(kind, part, size),
      unit,
    }),
  );
  const gate = Object.entries(combiner.parameterShapes(size.modelWidth)).map(([name, shape]) => {
    const id = names.sharedGate(layer, name);
    return shape.length > 1 ? matrix(id, shape, unit) : vector(id, shape, unit);
  });
  return [...parts, ...gate];
}

function describePart(
  kind: ExpertKind,
  part: string,
  { id, shape, unit }: Pick<ParameterDescription, 'id' | 'shape' | 'unit'>,
): ParameterDescription {
  const { initialise } = kind;
  return {
    ...(shape.length > 1 ? matrix(id, shape, unit) : vector(id, shape, unit)),
    transposed: part === 'down' && shape.length === 2,
    ...(initialise === undefined
      ? {}
      : { initialise: (request: InitialRequest) => initialise.call(kind, part, request) }),
  };
}

/**
 * Lists what routers keep beside trained tensors: host arrays that a model folder stores too.
 *
 * @param config - the model
 * @param parts - its routers
 */
export function describeBuffers(config: ModelConfig, parts: ModelParts): readonly ParameterDescription[] {
  const { names } = familyOf(config);
  return parts.routers.flatMap((router, layer) =>
    Object.entries(router?.bufferShapes() ?? {}).map(([name, shape]): ParameterDescription => ({
      id: names.routerTensor(layer, name),
      shape,
      transposed: false,
      role: 'buffer',
      unit: `layers.${layer}.router`,
    })),
  );
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

function vector(id: string, shape: readonly number[], unit: string): ParameterDescription {
  return { id, shape, transposed: false, role: 'vector', unit };
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
