/**
 * @file Sparse models into dense ones: the experts of every sparse layer become one feed-forward, the routers go.
 */
import { MoebiusError } from '@moebius/core';
import type { Router } from '@moebius/routing';
import {
  type HostExpert,
  mergeExperts,
  type MergeMethod,
  scaleExpert,
  weightSum,
} from '@moebius/routing/surgery';

import { isSparseLayer, modelConfigToJson, parseModelConfig } from '../config.ts';
import { dataOf, denseParts, expertPartIds, readExpert } from './layer-experts.ts';
import type { ModelValues } from './model-values.ts';
import { operate, rememberLast, type Surgery } from './operate.ts';

/** How a sparse model becomes dense. */
export interface MergeModelOptions {
  /** As in `mergeExperts`: `average`, `top` (with `count`), `best`, `low-rank` (with `rank`), `join` (with `count`). */
  readonly method: MergeMethod['method'];
  /** Pairs of every expert, `[E]` by layer, on a text; needed for `top` and `best`. Default: all the same. */
  readonly load?: { readonly [layer: number]: ArrayLike<number> };
  /** Experts that `top` and `join` take. Default for `join`: all. */
  readonly count?: number;
  /** Of `low-rank`. */
  readonly rank?: number;
}

/**
 * Makes a dense model of a sparse one. Outputs are multiplied by the sum of the gate's weights, the expected one where the gate
 * does not renormalise.
 *
 * @param before - has sparse layers, each of one kind of gated expert; kept open by the result
 * @param options - how experts are merged
 * @returns a model of type `qwen3`, exact when every sparse layer has one expert; distil it from the sparse one, or train on
 * @throws `configuration` when the model has no experts, load is missing, or dense layers there are have another width
 * @example
 * ```ts
 * const sparse = openModelValues('runs/demo/model');
 * const { values } = mergeModel(sparse, { method: 'average' });
 * saveModelValues('path/to/dense', values);
 * values.close();
 * ```
 */
export function mergeModel(before: ModelValues, options: MergeModelOptions): Surgery {
  const { config: sparse, parts } = before;
  const layers = Array.from({ length: sparse.num_hidden_layers }, (_, layer) => layer);
  const changed = layers.filter((layer) => isSparseLayer(sparse, layer));
  if (changed.length === 0)
    throw wrong('model', 'must have experts to be merged', 'a dense model', 'nothing is to do');
  const width =
    sparse.moe_intermediate_size * (options.method === 'join' ? (options.count ?? sparse.num_experts) : 1);
  if (changed.length < layers.length && width !== sparse.intermediate_size) {
    throw wrong(
      'merged layers',
      `must be as wide as the dense layers there are, intermediate_size ${sparse.intermediate_size}`,
      String(width),
      'a dense model has one width; join as many experts as make it up',
    );
  }
  const config = parseModelConfig(
    { ...modelConfigToJson(sparse), ...dense, intermediate_size: width, moebius: undefined },
    'merged model',
  );
  const methods = new Map(changed.map((layer) => [layer, methodOf(options, layer, sparse.num_experts)]));
  const factors = new Map(changed.map((layer) => [layer, sumOf(parts.routers[layer] ?? null)]));
  for (const layer of changed) assertOneKind(before, layer);
  const places = denseParts(config);
  const merged = rememberLast((layer: number): HostExpert => {
    const kind = parts.experts[layer]?.[0];
    const method = methods.get(layer);
    if (kind === undefined || method === undefined) throw wrong('layer', 'must be sparse', String(layer));
    const experts = Array.from({ length: sparse.num_experts }, (_, expert) =>
      readExpert(before, layer, expert),
    );
    return scaleExpert(kind, mergeExperts(kind, experts, method), { factor: factors.get(layer)?.sum ?? 1 });
  });
  const notes = [...new Set(changed.flatMap((layer) => factors.get(layer)?.note ?? []))];
  if (sparse.num_experts > 1)
    notes.unshift('experts that differ cannot be one dense layer: train on, or distil');
  return operate({
    before,
    config,
    parts: { routers: layers.map(() => null), experts: layers.map(() => []) },
    layers: changed,
    isExact: notes.length === 0,
    notes,
    plan({ id }) {
      const place = places.get(id);
      if (place === undefined || !changed.includes(place.layer)) return null;
      const { layer, part } = place;
      const from = (parts.experts[layer] ?? []).map(
        (kind, expert) => expertPartIds(sparse, kind, { layer, expert })[part] ?? part,
      );
      return { fate: 'merged', from, make: () => dataOf(merged(layer), part) };
    },
  });
}

/** What a dense model's config.json does not have. */
const dense = {
  model_type: 'qwen3',
  num_experts: 0,
  num_experts_per_tok: undefined,
  moe_intermediate_size: undefined,
  norm_topk_prob: undefined,
  decoder_sparse_step: undefined,
  mlp_only_layers: undefined,
  router_aux_loss_coef: undefined,
  output_router_logits: undefined,
} as const;

function methodOf(
  { method, load, count, rank }: MergeModelOptions,
  layer: number,
  experts: number,
): MergeMethod {
  const own = load?.[layer];
  switch (method) {
    case 'average':
      return { method, ...(own === undefined ? {} : { load: own }) };
    case 'low-rank':
      return { method, ...(own === undefined ? {} : { load: own }), ...(rank === undefined ? {} : { rank }) };
    case 'join':
      return { method, ...(own === undefined ? {} : { load: own }), count: count ?? experts };
    case 'best':
    case 'top': {
      if (own === undefined) {
        throw wrong(
          `load of layer ${layer}`,
          `must be given for method ${method}`,
          'none',
          'measure it on a text',
        );
      }
      if (method === 'best') return { method, load: own };
      if (count === undefined) throw wrong('count', 'must be given for method top', 'none');
      return { method, load: own, count };
    }
  }
}

function sumOf(router: Router | null): { readonly sum: number; readonly note?: string } {
  if (router?.name !== 'top-k' || router.gate === undefined)
    return { sum: 1, note: `router ${router?.name ?? 'none'} says no sum of its weights: 1 is taken` };
  const { sum, isFixed } = weightSum(router.gate);
  if (isFixed) return { sum };
  return {
    sum,
    note: `gates do not renormalise: the sum of their weights is taken as ${Number(sum.toPrecision(4))}`,
  };
}

/** The family's dense layer is a gated one with SiLU. */
function assertOneKind({ parts }: ModelValues, layer: number): void {
  const names = [...new Set((parts.experts[layer] ?? []).map(({ name }) => name))];
  if (names.join() === 'gated-silu') return;
  throw wrong(
    `experts of layer ${layer}`,
    'must be gated-silu to become a dense layer of this family',
    names.join(', '),
  );
}

function wrong(subject: string, expectation: string, got: string, remedy?: string): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: `${subject}: ${expectation}, got ${got}${remedy === undefined ? '' : ` (${remedy})`}`,
    details: { subject, got },
  });
}
