/**
 * @file Dense models into sparse ones: chosen layers get experts made of their feed-forward, everything else is kept.
 *
 * The result renormalises its gates, so that it computes what the dense model computed (`upcycleFactor` of `@moebius/routing/surgery` says when).
 */
import { configurationError, createRng, type Fault, MoebiusError, type Rng } from '@moebius/core';
import { gatedExpert, type GateConfig, topKRouter } from '@moebius/routing';
import {
  clusterNeurons,
  type HostExpert,
  type HostTensor,
  meanKeyRouter,
  type NeuronSplit,
  splitAtRandom,
  splitByCoActivation,
  splitInOrder,
  upcycleExpert,
  upcycleFactor,
  virtualGroupRouter,
} from '@moebius/routing/surgery';

import { isSparseLayer, type ModelConfig, modelConfigToJson, parseModelConfig } from '../config.ts';
import type { ParameterDescription } from '../describe-parameters.ts';
import { familyOf } from '../family.ts';
import { chooseLayers, dataOf, denseIds, expertParts, readDense } from './layer-experts.ts';
import type { ModelValues } from './model-values.ts';
import { operate, rememberLast, type Surgery, type TensorPlan } from './operate.ts';

/** How a dense model becomes sparse. */
export interface UpcycleModelOptions {
  /** E: experts of every sparse layer. */
  readonly experts: number;
  /** K: experts of a token. */
  readonly topK: number;
  /** Experts that one copy of the feed-forward is cut into: 1 copies it whole, E cuts it up once. Divides E and the width. Default 1. */
  readonly shards?: number;
  /** Which neurons come together in a shard: neighbours, at random, those with similar weights, or that are active together. Default `order`. */
  readonly split?: 'order' | 'random' | 'cluster' | 'co-activation';
  /** For `co-activation`: counts `[F, F]` by layer, from `measureCoActivations`. */
  readonly coActivations?: { readonly [layer: number]: HostTensor };
  /** Normal noise on every copy but the first, relative to each matrix. Default 0. */
  readonly noise?: number;
  /** Layers that become sparse; the others stay dense. Default all. */
  readonly layers?: readonly number[];
  /** Where outputs are multiplied: in the output matrix, exactly, or evenly in all, as Megatron does. Default `output`. */
  readonly placing?: 'output' | 'even';
  /** Whether gates divide their weights by their sum. Default true: without, the result only comes near the dense model. */
  readonly renormalise?: boolean;
  /**
   * First rows of routers: `random` with `initializer_range` (one row for all shards of a copy), `zero`, or `mean-key`, the
   * mean of each expert's gate rows. Default `random`.
   */
  readonly router?: 'random' | 'zero' | 'mean-key';
  /** Of routers, random splits and noise. Default 0. */
  readonly seed?: number;
}

/**
 * Gives a dense model experts.
 *
 * @param before - every layer is dense; kept open by the result
 * @param options - how many experts, how they are made, in which layers
 * @returns the sparse model, of type `qwen3_moe`, and where each of its tensors comes from. Without noise, with shards that divide
 * top-k, it computes what the dense model did
 * @throws `configuration` with all faults: a model that is sparse already, top-k above experts, shards that do not divide
 * @example
 * ```ts
 * const dense = openModelValues('path/to/Qwen3-0.6B');
 * const { values, report } = upcycleModel(dense, { experts: 8, topK: 2 });
 * saveModelValues('path/to/sparse', values, { dtype: 'bfloat16' });
 * console.log(report.isExact, report.parameters.after);
 * values.close();
 * ```
 */
export function upcycleModel(before: ModelValues, options: UpcycleModelOptions): Surgery {
  const { config: dense } = before;
  assertDense(dense);
  const all = Array.from({ length: dense.num_hidden_layers }, (_, layer) => layer);
  const layers = chooseLayers(options.layers, { among: all, what: 'layers' });
  const { experts, topK, shards = 1, renormalise = true } = options;
  assertOptions(options, dense);
  const config = parseModelConfig(
    {
      ...modelConfigToJson(dense),
      model_type: 'qwen3_moe',
      num_experts: experts,
      num_experts_per_tok: topK,
      moe_intermediate_size: dense.intermediate_size / shards,
      norm_topk_prob: renormalise,
      decoder_sparse_step: 1,
      mlp_only_layers: all.filter((layer) => !layers.includes(layer)),
      router_aux_loss_coef: dense.router_aux_loss_coef,
      output_router_logits: dense.output_router_logits,
    },
    'upcycled model',
  );
  const gate = familyOf(config).gate(config);
  const kind = gatedExpert();
  const parts = {
    routers: all.map((layer) => (layers.includes(layer) ? topKRouter(gate) : null)),
    experts: all.map((layer) => (layers.includes(layer) ? Array.from({ length: experts }, () => kind) : [])),
  };
  const maker = createMaker(before, { config, gate, options });
  const places = expertParts(config, parts.experts);
  const routers = new Map(layers.map((layer) => [familyOf(config).names.router(layer), layer]));
  return operate({
    before,
    config,
    parts,
    layers,
    ...judge(options, gate),
    plan(description: ParameterDescription): TensorPlan | null {
      const place = places.get(description.id);
      if (place !== undefined) return maker.expert(place.layer, place.expert, place.part);
      const layer = routers.get(description.id);
      return layer === undefined ? null : maker.router(layer);
    },
  });
}

function assertDense(config: ModelConfig): void {
  const sparse = Array.from({ length: config.num_hidden_layers }, (_, layer) => layer).filter((layer) =>
    isSparseLayer(config, layer),
  );
  if (sparse.length === 0) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `model: must be dense to be upcycled, got ${config.num_experts} experts in ${sparse.length} of ${config.num_hidden_layers} layers (add experts to it instead, or merge them first)`,
    details: { experts: config.num_experts, sparseLayers: sparse },
  });
}

/** Every fault of the options at once. */
function assertOptions(options: UpcycleModelOptions, { intermediate_size: width }: ModelConfig): void {
  const { experts, topK, shards = 1, noise = 0 } = options;
  const faults: Fault[] = [];
  const isCount = (value: number): boolean => Number.isInteger(value) && value >= 1;
  const add = (path: string, expectation: string, got: number, remedy?: string): void => {
    faults.push({ path, expectation, got: String(got), ...(remedy === undefined ? {} : { remedy }) });
  };
  if (!isCount(experts)) add('experts', 'must be an integer of at least 1', experts);
  if (!isCount(topK)) add('topK', 'must be an integer of at least 1', topK);
  else if (topK > experts)
    add('topK', `must be at most experts ${experts}`, topK, 'lower topK or add experts');
  if (!isCount(shards)) add('shards', 'must be an integer of at least 1', shards);
  else {
    if (isCount(experts) && experts % shards !== 0)
      add('shards', `must divide experts ${experts}`, shards, 'every copy is cut into as many experts');
    if (width % shards !== 0)
      add('shards', `must divide intermediate_size ${width}`, shards, `divisors: ${divisorsOf(width)}`);
  }
  if (!(noise >= 0) || !Number.isFinite(noise)) add('noise', 'must be a number of at least 0', noise);
  if (faults.length > 0) throw configurationError('upcycling', faults);
}

function divisorsOf(value: number): string {
  const found = Array.from({ length: Math.min(value, 64) }, (_, at) => at + 1).filter(
    (divisor) => value % divisor === 0,
  );
  return found.join(', ');
}

function judge(
  options: UpcycleModelOptions,
  gate: GateConfig,
): { readonly isExact: boolean; readonly notes: readonly string[] } {
  const { shards = 1, placing = 'output', noise = 0, experts, router = 'random' } = options;
  const { factor, isExact, reason } = upcycleFactor(gate, shards);
  const copies = experts / shards;
  const hasGroups = shards === 1 || (copies > 1 ? router !== 'mean-key' : router === 'zero');
  const notes = [
    ...(reason === undefined ? [] : [reason]),
    ...(noise > 0 && copies > 1 ? [`noise of ${noise} on ${copies - 1} of ${copies} copies`] : []),
    ...(placing === 'even' && factor !== 1
      ? ['the factor is spread over matrices around a SiLU, which does not pass it on']
      : []),
    ...(hasGroups ? [] : ['each shard has a router row of its own: tokens get parts of the layer']),
  ];
  return { isExact: isExact && notes.length === 0, notes };
}

interface Maker {
  expert(layer: number, expert: number, part: string): TensorPlan;
  router(layer: number): TensorPlan;
}

interface MakerScope {
  readonly config: ModelConfig;
  readonly gate: GateConfig;
  readonly options: UpcycleModelOptions;
}

function createMaker(before: ModelValues, { config, gate, options }: MakerScope): Maker {
  const { shards = 1, placing = 'output', noise = 0, experts, router = 'random', seed = 0 } = options;
  const copies = experts / shards;
  const rng = createRng([seed]).fork('upcycle');
  const { factor } = upcycleFactor(gate, shards);
  const kind = gatedExpert();
  const dense = rememberLast((layer: number) => readDense(before, layer));
  const split = rememberLast((layer: number) =>
    splitOf(dense(layer), { options, layer, rng: rng.fork(`split ${layer}`) }),
  );
  const make = (layer: number, expert: number): HostExpert =>
    upcycleExpert(kind, dense(layer), {
      copies,
      shards,
      factor,
      placing,
      expert,
      ...(shards === 1 ? {} : { split: split(layer) }),
      ...(noise === 0 ? {} : { noise: { relative: noise, rng: rng.fork(`noise ${layer}`) } }),
    });
  const last = rememberLast((key: string) => {
    const [layer = 0, expert = 0] = key.split(' ').map(Number);
    return make(layer, expert);
  });
  return {
    expert: (layer, expert, part) => ({
      fate: shards === 1 ? 'copied' : 'cut',
      from: [denseIds(before.config, layer)[part] ?? part],
      make: () => dataOf(last(`${layer} ${expert}`), part),
    }),
    router: (layer) => ({
      fate: 'fresh',
      from: [],
      make: () => {
        const own = rng.fork(`router ${layer}`);
        const standardDeviation = router === 'zero' ? 0 : config.initializer_range;
        if (router === 'mean-key') {
          const list = Array.from({ length: experts }, (_, expert) => make(layer, expert));
          return meanKeyRouter(list, { part: 'gate', standardDeviation }).data;
        }
        // One copy has no other to be told from: its shards get rows of their own.
        const groups = copies === 1 ? { copies: shards, shards: 1 } : { copies, shards };
        return virtualGroupRouter({ ...groups, modelWidth: config.hidden_size, standardDeviation, rng: own })
          .data;
      },
    }),
  };
}

function splitOf(
  dense: HostExpert,
  {
    options,
    layer,
    rng,
  }: { readonly options: UpcycleModelOptions; readonly layer: number; readonly rng: Rng },
): NeuronSplit {
  const { shards = 1, split = 'order' } = options;
  const { shape = [] } = dense['gate'] ?? {};
  const [neurons = 0] = shape;
  if (split === 'co-activation') return splitByCoActivation(countsOf(options, layer), { experts: shards });
  if (split === 'random') return splitAtRandom(neurons, { experts: shards, rng });
  if (split === 'cluster')
    return clusterNeurons({ shape, data: dataOf(dense, 'gate') }, { experts: shards, rng });
  return splitInOrder(neurons, shards);
}

function countsOf({ coActivations }: UpcycleModelOptions, layer: number): HostTensor {
  const counts = coActivations?.[layer];
  if (counts !== undefined) return counts;
  throw new MoebiusError({
    code: 'configuration',
    message: `coActivations: must have counts of layer ${layer} for a split by co-activation, got none (measureCoActivations makes them)`,
    details: { layer },
  });
}
