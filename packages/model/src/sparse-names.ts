/**
 * @file The tensors of a sparse layer by name: computed once, read at every pass, and where gradients go.
 */
import type { ExpertKind, ExpertParameters, Router, RouterParameters } from '@moebius/routing';
import type { ParameterStore, Tensor } from '@moebius/tensor';

import type { ParameterGradients } from './block.ts';
import type { ModelConfig } from './config.ts';
import { familyOf, type LayerNames } from './family.ts';
import type { MoeGradients } from './moe-block.ts';

/** Parameter ids by part. */
export interface PartIds {
  readonly [part: string]: string;
}

/** What {@link createSparseNames} is told. */
export interface SparseNamesOptions {
  /** The model. */
  readonly config: ModelConfig;
  /** Where tensors are read. */
  readonly parameters: ParameterStore;
  /** Layer index. */
  readonly layer: number;
  /** Of the layer. */
  readonly router: Router;
  /** Of each expert. */
  readonly kinds: readonly ExpertKind[];
}

/** The names of a sparse layer. */
export interface SparseNames {
  /** Attention and norms. */
  readonly own: LayerNames;
  /** Ids of the parts of each expert. */
  readonly experts: readonly PartIds[];
  /** The router's tensors, borrowed. */
  readRouter(): RouterParameters;
  /** Gradients of router and experts by id; the same tensors. */
  gradients(of: Pick<MoeGradients, 'router' | 'experts'>): ParameterGradients;
}

/**
 * Names a layer's tensors.
 *
 * @param options - model, layer, router and kinds
 */
export function createSparseNames(options: SparseNamesOptions): SparseNames {
  const { config, parameters, layer, router, kinds } = options;
  const { names } = familyOf(config);
  const routerIds: PartIds = Object.fromEntries(
    Object.keys(router.parameterShapes(config.hidden_size)).map((name) => [
      name,
      names.routerTensor(layer, name),
    ]),
  );
  const experts = expertIds(config, layer, kinds);
  return {
    own: names.layer(layer),
    experts,
    readRouter: () => readParts(parameters, routerIds),
    gradients: (of) => {
      const gradients: { [id: string]: Tensor } = {};
      assign(gradients, routerIds, of.router);
      for (const [expert, ids] of experts.entries()) assign(gradients, ids, of.experts[expert] ?? {});
      return gradients;
    },
  };
}

/** Ids of the parts of each expert of a layer, those of its base among them. */
export function expertIds(config: ModelConfig, layer: number, kinds: readonly ExpertKind[]): PartIds[] {
  const { names } = familyOf(config);
  return kinds.map((kind, expert) => {
    const own = Object.keys(kind.parts).map((part) => [part, names.expertPart(layer, expert, part)]);
    const base = Object.keys(kind.base?.kind.parts ?? {}).map((part) => [
      part,
      basePartId(config, { layer, expert, part }, kind.base),
    ]);
    return Object.fromEntries([...base, ...own]) as PartIds;
  });
}

/** The id of a frozen part: the layer's, or the expert's own. */
export function basePartId(
  config: ModelConfig,
  { layer, expert, part }: { readonly layer: number; readonly expert: number; readonly part: string },
  base: ExpertKind['base'],
): string {
  const { names } = familyOf(config);
  return base?.scope === 'expert' ? names.expertPart(layer, expert, part) : names.basePart(layer, part);
}

/** Borrowed tensors by part. */
export function readParts(parameters: ParameterStore, ids: PartIds): ExpertParameters {
  const tensors: { [part: string]: Tensor } = {};
  for (const part in ids) tensors[part] = parameters.read(ids[part] as string);
  return tensors;
}

function assign(
  gradients: { [id: string]: Tensor },
  ids: PartIds,
  parts: { readonly [part: string]: Tensor },
): void {
  for (const [part, id] of Object.entries(ids)) {
    const gradient = parts[part];
    if (gradient !== undefined) gradients[id] = gradient;
  }
}
