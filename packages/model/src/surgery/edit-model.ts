/**
 * @file Adding and removing experts of a whole model. Every sparse layer has as many experts as the others, so each of them is
 * edited; which of its experts go may differ by layer.
 */
import { createRng, MoebiusError, type Rng } from '@moebius/core';
import { parseGateConfig, type Router, topKRouter } from '@moebius/routing';
import {
  addNoise,
  type AddedExpert,
  editExpertRows,
  editOptimizerState,
  type ExpertEdit,
  type ExpertIds,
  type HostExpert,
  type HostOptimizerState,
  planExpertEdit,
} from '@moebius/routing/surgery';

import { isSparseLayer, type ModelConfig, modelConfigToJson, parseModelConfig } from '../config.ts';
import { describeBuffers, describeTensors, type ParameterDescription } from '../describe-parameters.ts';
import { familyOf } from '../family.ts';
import { initialData } from '../initialise-parameters.ts';
import { type ModelParts, type PartsChoice, resolveParts } from '../model-parts.ts';
import { dataOf, expertParts, readExpert } from './layer-experts.ts';
import type { ModelValues } from './model-values.ts';
import { operate, rememberLast, type Surgery, type TensorPlan } from './operate.ts';

/** Which experts a model loses and gets. */
export interface EditModelOptions {
  /** Experts to remove: of every sparse layer, or by layer, the same number in each. Default none. */
  readonly remove?: readonly number[] | { readonly [layer: number]: readonly number[] };
  /** Experts to add to every sparse layer, behind those that stay. Default none. */
  readonly add?: readonly AddedExpert[];
  /** Normal noise on copies and on their router rows, relative to each tensor. Default 0.01. */
  readonly noise?: number;
  /** K of the new model. Default: as it was. */
  readonly topK?: number;
  /** Of noise and of fresh experts. Default 0. */
  readonly seed?: number;
  /** Where routers are found that are named in config.json: they are made anew for the new number of experts. */
  readonly plugins?: PartsChoice['plugins'];
}

/** A changed model, what was done, and who is who in each layer. */
export interface ModelEdit extends Surgery {
  /** By sparse layer. */
  readonly edits: ReadonlyMap<number, ExpertEdit>;
  /**
   * What an optimizer keeps, after the edit: under the new ids for experts that stay, with their rows in the routers; nothing of
   * removed ones, nothing for added ones.
   *
   * @param state - by parameter id of the old model; borrowed, and shared with the result where nothing changes
   */
  editState(state: { readonly [id: string]: HostOptimizerState }): {
    readonly [id: string]: HostOptimizerState;
  };
}

/**
 * Removes and adds experts.
 *
 * @param before - has sparse layers; kept open by the result
 * @param options - which
 * @returns the new model: experts that stay keep every bit, and so do their rows in the routers
 * @throws `configuration` when an expert is not there, layers would differ in number, or top-k is above what is left
 * @example
 * ```ts
 * const before = openModelValues('runs/demo/model');
 * const { values, report } = editModelExperts(before, { remove: [3], add: [{ copyOf: 0 }, 'fresh'] });
 * saveModelValues('path/to/edited', values);
 * values.close();
 * ```
 */
export function editModelExperts(before: ModelValues, options: EditModelOptions): ModelEdit {
  const { config: old } = before;
  const { noise = 0.01, topK = old.num_experts_per_tok, seed = 0, plugins } = options;
  const edits = planEdits(old, options);
  const [first] = edits.values();
  if (first === undefined)
    throw wrong('model', 'must have experts to add to or remove from', 'a dense model', 'upcycle it first');
  const config = parseModelConfig(
    { ...modelConfigToJson(old), num_experts: first.after, num_experts_per_tok: topK, moebius: undefined },
    'edited model',
  );
  const parts = editParts(before, { config, edits, plugins });
  const rng = createRng([seed]).fork('edit');
  const scope: Scope = { before, config, edits, noise, rng, axes: expertAxes(before, { plugins, parts }) };
  const surgery = operate({
    before,
    config,
    parts,
    layers: [...edits.keys()],
    isExact: false,
    notes: ['the gate chooses among other experts'],
    plan: createPlanner(scope, parts),
  });
  return { ...surgery, edits, editState: (state) => editStateOf(scope, state) };
}

interface Scope {
  readonly before: ModelValues;
  readonly config: ModelConfig;
  readonly edits: ReadonlyMap<number, ExpertEdit>;
  readonly noise: number;
  readonly rng: Rng;
  readonly axes: ReadonlyMap<string, number>;
}

/** Layer by layer, each with its own edit; what belongs to no layer's experts or router stays. */
function editStateOf(
  { before, edits, axes }: Scope,
  state: { readonly [id: string]: HostOptimizerState },
): { readonly [id: string]: HostOptimizerState } {
  const { names } = familyOf(before.config);
  const places = expertParts(before.config, before.parts.experts);
  const layers: { [layer: number]: { [id: string]: HostOptimizerState } } = {};
  const result: { [id: string]: HostOptimizerState } = {};
  for (const [id, held] of Object.entries(state)) {
    const layer = places.get(id)?.layer ?? (axes.has(id) ? layerOf(id) : undefined);
    if (layer === undefined) result[id] = held;
    else layers[layer] = { ...layers[layer], [id]: held };
  }
  for (const [layer, edit] of edits) {
    const ids: ExpertIds = {
      expertOf: (id) => places.get(id)?.expert ?? null,
      withExpert: (id, expert) => names.expertPart(layer, expert, places.get(id)?.part ?? ''),
      expertAxis: (id) => axes.get(id) ?? null,
    };
    Object.assign(result, editOptimizerState(layers[layer] ?? {}, edit, ids));
  }
  return result;
}

/** The layer in a tensor's name. */
function layerOf(id: string): number {
  return Number(/\.(\d+)\./.exec(id)?.[1] ?? -1);
}

function planEdits(
  config: ModelConfig,
  { remove = [], add = [] }: EditModelOptions,
): ReadonlyMap<number, ExpertEdit> {
  const edits = new Map<number, ExpertEdit>();
  for (let layer = 0; layer < config.num_hidden_layers; layer += 1) {
    if (!isSparseLayer(config, layer)) continue;
    const own = Array.isArray(remove)
      ? (remove as readonly number[])
      : ((remove as { readonly [layer: number]: readonly number[] })[layer] ?? []);
    edits.set(layer, planExpertEdit({ experts: config.num_experts, remove: own, add }));
  }
  const named = Array.isArray(remove) ? [] : Object.keys(remove).map(Number);
  const stray = named.find((layer) => !edits.has(layer));
  if (stray !== undefined)
    throw wrong('remove', `must name sparse layers (${[...edits.keys()].join(', ')})`, String(stray));
  const counts = new Set([...edits.values()].map(({ after }) => after));
  if (counts.size > 1) {
    const list = [...edits].map(([layer, { after }]) => `${after} in layer ${layer}`).join(', ');
    throw wrong('remove', 'must leave the same number of experts in every sparse layer', list);
  }
  return edits;
}

/** Kinds follow their experts; an added one is of the kind it copies, a fresh one of the layer's first. */
function editParts(
  before: ModelValues,
  {
    config,
    edits,
    plugins,
  }: {
    readonly config: ModelConfig;
    readonly edits: ReadonlyMap<number, ExpertEdit>;
    readonly plugins: PartsChoice['plugins'];
  },
): ModelParts {
  const { parts } = before;
  return {
    routers: parts.routers.map((router, layer) => {
      if (router === null) return null;
      return routerFor(before, { router, layer, config, plugins });
    }),
    experts: parts.experts.map((kinds, layer) => {
      const edit = edits.get(layer);
      return edit === undefined ? kinds : [...edit.source].flatMap((from) => kinds[Math.max(0, from)] ?? []);
    }),
  };
}

interface RouterScope {
  readonly router: Router;
  readonly layer: number;
  readonly config: Pick<ModelConfig, 'num_experts' | 'num_experts_per_tok'>;
  readonly plugins: PartsChoice['plugins'];
}

/** The same router for another number of experts. */
function routerFor(before: ModelValues, { router, layer, config, plugins }: RouterScope): Router {
  const { num_experts: experts, num_experts_per_tok: topK } = config;
  if (isBuiltIn(router)) return topKRouter(parseGateConfig({ ...router.gate, experts, topK }));
  const { moebius } = before.config;
  const routers = moebius?.routers?.map((named) => {
    const { options } = named;
    const counts = { ...('experts' in options ? { experts } : {}), ...('topK' in options ? { topK } : {}) };
    return { ...named, options: { ...options, ...counts } };
  });
  const wanted: ModelConfig = {
    ...before.config,
    num_experts: experts,
    num_experts_per_tok: topK,
    ...(moebius === undefined || routers === undefined ? {} : { moebius: { ...moebius, routers } }),
  };
  const made = resolveParts(wanted, { plugins }).routers[layer];
  if (made !== null && made !== undefined && made.name === router.name) return made;
  throw wrong(
    `router "${router.name}" of layer ${layer}`,
    'must be named in config.json and come from a factory',
    'a router given by value',
    'a router by value is made for one number of experts',
  );
}

/** The family's gate, and not another one that is described by a gate's settings too. */
function isBuiltIn({ name, gate }: Router): boolean {
  return name === 'top-k' && gate !== undefined;
}

/** Tensors of routers that have a slice for each expert: the axis that grows when there is one more. */
function expertAxes(
  before: ModelValues,
  { plugins }: { readonly plugins: PartsChoice['plugins']; readonly parts: ModelParts },
): ReadonlyMap<string, number> {
  const { config, parts } = before;
  const { names } = familyOf(config);
  const axes = new Map<string, number>();
  const more = { num_experts: config.num_experts + 1, num_experts_per_tok: config.num_experts_per_tok };
  for (const [layer, router] of parts.routers.entries()) {
    if (router === null) continue;
    const own = shapesOf(router, config.hidden_size);
    // The built-in gate has experts first everywhere; with groups there need not be a gate of one more expert.
    const grown = !isBuiltIn(router)
      ? shapesOf(routerFor(before, { router, layer, config: more, plugins }), config.hidden_size)
      : null;
    for (const [name, shape] of Object.entries(own)) {
      const axis = grown === null ? 0 : shape.findIndex((length, at) => grown[name]?.[at] !== length);
      if (axis >= 0) axes.set(names.routerTensor(layer, name), axis);
    }
  }
  return axes;
}

function shapesOf(router: Router, modelWidth: number): { readonly [name: string]: readonly number[] } {
  return { ...router.parameterShapes(modelWidth), ...router.bufferShapes() };
}

function createPlanner(
  scope: Scope,
  parts: ModelParts,
): (description: ParameterDescription) => TensorPlan | null {
  const { before, config, edits, axes, rng, noise } = scope;
  const places = expertParts(config, parts.experts);
  const shapes = new Map(
    [...describeTensors(before.config, before.parts), ...describeBuffers(before.config, before.parts)].map(
      ({ id, shape }) => [id, shape],
    ),
  );
  const copies = rememberLast((key: string): HostExpert => {
    const [layer = 0, expert = 0, from = 0] = key.split(' ').map(Number);
    return addNoise(readExpert(before, layer, from), noise, rng.fork(`${layer} ${expert}`));
  });
  return (description) => {
    const { id } = description;
    const place = places.get(id);
    if (place === undefined)
      return planRouterTensor(scope, description, { shape: shapes.get(id), axis: axes.get(id) });
    const { layer, expert, part } = place;
    const edit = edits.get(layer);
    const from = edit?.source[expert] ?? -1;
    const kind = parts.experts[layer]?.[expert];
    if (edit === undefined || kind === undefined) return null;
    if (from < 0) return { fate: 'fresh', from: [], make: () => initialData(description, config, rng) };
    const source = familyOf(config).names.expertPart(layer, from, part);
    const isBase = !(part in kind.parts);
    if (edit.added[expert] === 1 && isBase)
      return { fate: 'copied', from: [source], make: () => before.read(source) };
    if (edit.added[expert] === 1) {
      return {
        fate: 'copied',
        from: [source],
        make: () => dataOf(copies(`${layer} ${expert} ${from}`), part),
      };
    }
    return { fate: source === id ? 'kept' : 'renamed', from: [source], make: () => before.read(source) };
  };
}

function planRouterTensor(
  { before, edits, config, noise, rng }: Scope,
  { id, role }: ParameterDescription,
  { shape, axis }: { readonly shape: readonly number[] | undefined; readonly axis: number | undefined },
): TensorPlan | null {
  if (shape === undefined || axis === undefined) return null;
  const layer = layerOf(id);
  const edit = edits.get(layer);
  if (edit === undefined) return null;
  const standardDeviation = role === 'matrix' ? config.initializer_range : 0;
  const make = (): Float32Array =>
    editExpertRows({ shape, data: before.read(id) }, edit, {
      axis,
      noise: role === 'matrix' ? noise : 0,
      standardDeviation,
      rng: rng.fork(id),
    }).data;
  return { fate: 'edited', from: [id], make };
}

function wrong(subject: string, expectation: string, got: string, remedy?: string): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: `${subject}: ${expectation}, got ${got}${remedy === undefined ? '' : ` (${remedy})`}`,
    details: { subject, got },
  });
}
