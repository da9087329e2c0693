/**
 * @file The parts of a model that are values: the router of every sparse layer and the kind of every expert.
 *
 * They come from what the caller gives, or by the names of a configuration's `moebius` section out of plug-ins and the
 * built-in parts, or are the family's own.
 */
import {
  configurationError,
  describeValue,
  type Fault,
  isPlugin,
  MoebiusError,
  nearest,
} from '@moebius/core';
import type { Plugin } from '@moebius/core';
import { builtInExperts, gatedExpert, topKRouter } from '@moebius/routing';
import { builtInRouters } from '@moebius/routing/gates';
import type { ExpertKind, Router, RouterFactory, RouterPlace, RouterSettings } from '@moebius/routing';

import { isSparseLayer, type ModelConfig } from './config.ts';
import { familyOf } from './family.ts';
import type { ModelExtension, NamedExperts, NamedRouter } from './model-extension.ts';

/** The expert that a kind is chosen for. */
export interface ExpertPlace {
  /** Layer index in the model. */
  readonly layer: number;
  /** Expert of the layer. */
  readonly expert: number;
}

/** Parts by value, or plug-ins in which the names of a configuration are looked up. */
export interface PartsChoice {
  /** The router of every sparse layer: one, one made for each by a factory with its default options, or a function of the layer. */
  readonly router?: Router | RouterFactory | ((place: RouterPlace) => Router) | undefined;
  /** The kind of every expert, or a function of layer and expert. */
  readonly experts?: ExpertKind | ((place: ExpertPlace) => ExpertKind) | undefined;
  /** Where the names of the configuration's `moebius` section are found; others are left alone. */
  readonly plugins?: readonly Plugin[] | undefined;
}

/** What a model is made of beside its tensors. */
export interface ModelParts {
  /** By layer; null for a dense one. */
  readonly routers: readonly (Router | null)[];
  /** By layer and expert; empty for a dense layer. */
  readonly experts: readonly (readonly ExpertKind[])[];
}

/** Parts to be found, or those of a model (`model.parts`). */
export type PartsSource = PartsChoice | ModelParts;

/**
 * Finds the parts of a model.
 *
 * @param config - the model; its `moebius` section names parts that must be given or known
 * @param choice - parts by value and plug-ins; the parts of a model are given back as they are
 * @throws `configuration` when a named part is not given, or another one is; when a router has another number of experts
 * @throws `plugin` when a value is not a router or kind
 */
export function resolveParts(config: ModelConfig, choice: PartsSource = {}): ModelParts {
  if ('routers' in choice) return choice;
  const layers = Array.from({ length: config.num_hidden_layers }, (_, layer) => layer);
  const sparse = layers.filter((layer) => isSparseLayer(config, layer));
  const faults: Fault[] = [];
  const choose = createChooser(config, choice, faults);
  const routers = layers.map((layer) =>
    sparse.includes(layer) ? choose.router(placeOf(config, sparse, layer)) : null,
  );
  const experts = layers.map((layer) =>
    sparse.includes(layer)
      ? Array.from({ length: config.num_experts }, (_, expert) => choose.expert({ layer, expert }))
      : [],
  );
  if (faults.length > 0) throw configurationError('config.json', faults);
  return { routers, experts };
}

function placeOf(config: ModelConfig, sparse: readonly number[], layer: number): RouterPlace {
  return {
    layer,
    place: sparse.indexOf(layer),
    sparseLayers: sparse.length,
    experts: config.num_experts,
    topK: config.num_experts_per_tok,
    modelWidth: config.hidden_size,
  };
}

interface Chooser {
  router(place: RouterPlace): Router;
  expert(place: ExpertPlace): ExpertKind;
}

function createChooser(config: ModelConfig, choice: PartsChoice, faults: Fault[]): Chooser {
  const { router: given, experts: kinds, plugins = [] } = choice;
  const known = [...plugins.filter((plugin) => isPlugin(plugin, 'expert')), ...builtInExperts()];
  const usual = { router: topKRouter(familyOf(config).gate(denseSafe(config))), expert: gatedExpert() };
  const add = (fault: Fault): void => {
    if (!faults.some(({ path, got }) => path === fault.path && got === fault.got)) faults.push(fault);
  };
  return {
    router(place) {
      const at = config.moebius?.routers?.findIndex(({ layers }) => layers.includes(place.layer)) ?? -1;
      const named = config.moebius?.routers?.[at];
      if (given !== undefined) {
        const router = assertRouter(makeRouter(given, place), place);
        if (named !== undefined && !isNamed(router, named)) add(otherRouter(router, named, at));
        return router;
      }
      if (named === undefined) return usual.router;
      const found = findRouter(named, plugins, place);
      if (found !== undefined) return assertRouter(found, place);
      const names = plugins.filter((plugin) => isRouterLike(plugin)).map(({ name }) => name);
      const close = nearest(named.name, [...names, ...builtInRouters().map(({ name }) => name)]);
      add(notGiven(`moebius.routers[${at}].name`, named.name, { part: 'router', names, close }));
      return usual.router;
    },
    expert(place) {
      const at = config.moebius?.experts?.findIndex((entry) => covers(entry, place)) ?? -1;
      const named = config.moebius?.experts?.[at];
      if (kinds !== undefined) {
        const kind = assertKind(typeof kinds === 'function' ? kinds(place) : kinds, place);
        if (named !== undefined && kind.name !== named.name) add(otherKind(kind, named, at));
        return kind;
      }
      if (named === undefined) return usual.expert;
      const found = known.find(({ name }) => name === named.name);
      if (found !== undefined) return found as ExpertKind;
      const names = known.map(({ name }) => name);
      const close = nearest(named.name, names);
      add(notGiven(`moebius.experts[${at}].name`, named.name, { part: 'expert kind', names, close }));
      return usual.expert;
    },
  };
}

/** A gate needs an expert; a model without any has no sparse layer that would use it. */
function denseSafe(config: ModelConfig): ModelConfig {
  return config.num_experts > 0 ? config : { ...config, num_experts: 1, num_experts_per_tok: 1 };
}

function covers({ layers, experts }: NamedExperts, { layer, expert }: ExpertPlace): boolean {
  return layers.includes(layer) && (experts === undefined || experts.includes(expert));
}

function isRouterLike(plugin: Plugin): boolean {
  return isPlugin(plugin, 'router') || isPlugin(plugin, 'router-factory');
}

function makeRouter(given: NonNullable<PartsChoice['router']>, place: RouterPlace): unknown {
  if (typeof given === 'function') return given(place);
  return isPlugin(given, 'router-factory') ? (given as RouterFactory).create(place, {}) : given;
}

function findRouter(
  { name, options }: NamedRouter,
  plugins: readonly Plugin[],
  place: RouterPlace,
): Router | undefined {
  const plugin = [...plugins, ...builtInRouters()].find(
    (candidate) => candidate.name === name && isRouterLike(candidate),
  );
  if (plugin !== undefined && isPlugin(plugin, 'router-factory')) {
    return (plugin as RouterFactory).create(place, options);
  }
  return plugin as Router | undefined;
}

function isNamed(router: Router, { name, options }: NamedRouter): boolean {
  return router.name === name && isSame(router.options ?? {}, options);
}

/** Equal as JSON, whatever the order of keys. */
function isSame(left: unknown, right: unknown): boolean {
  return canonical(left) === canonical(right);
}

function canonical(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
  const sorted = entries.toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${sorted.map(([key, entry]) => `${JSON.stringify(key)}:${canonical(entry)}`).join()}}`;
}

function assertRouter(value: unknown, { layer, experts, modelWidth }: RouterPlace): Router {
  if (!isPlugin(value, 'router')) throw notPart(`layers[${layer}] router`, 'defineRouter', value);
  const router = value as Router;
  if (router.experts !== experts) {
    throw new MoebiusError({
      code: 'configuration',
      message: `layers[${layer}] router "${router.name}": must route to num_experts ${experts}, got ${router.experts} (make it for the model, or change num_experts)`,
      details: { layer, router: router.name, experts, got: router.experts },
    });
  }
  for (const name of [
    ...Object.keys(router.parameterShapes(modelWidth)),
    ...Object.keys(router.bufferShapes()),
  ]) {
    if (/^[A-Za-z_]\w*$/.test(name)) continue;
    throw new MoebiusError({
      code: 'plugin',
      message: `layers[${layer}] router "${router.name}": tensors must have names of letters, digits and _, got ${JSON.stringify(name)} (they become names in files)`,
      details: { layer, router: router.name, name },
    });
  }
  return router;
}

function assertKind(value: unknown, { layer, expert }: ExpertPlace): ExpertKind {
  if (isPlugin(value, 'expert')) return value as ExpertKind;
  throw notPart(`layers[${layer}] kind of expert ${expert}`, 'defineExpert', value);
}

function notPart(subject: string, maker: string, value: unknown): MoebiusError {
  const got = isPlugin(value) ? `${value.kind} "${value.name}"` : describeValue(value);
  return new MoebiusError({
    code: 'plugin',
    message: `${subject}: must be made by ${maker}, got ${got}`,
    details: { subject, got },
  });
}

function notGiven(
  path: string,
  name: string,
  { part, names, close }: { part: string; names: readonly string[]; close: string | undefined },
): Fault {
  const remedy = `give the plug-in that has it: { plugins: [...] }, "plugins" of a run, or --plugin`;
  return {
    path,
    expectation: `must name a ${part} that is given (${names.length === 0 ? 'none' : names.join(', ')}) or built in`,
    got: JSON.stringify(name),
    remedy: close === undefined ? remedy : `did you mean "${close}"? else ${remedy}`,
  };
}

function otherRouter(router: Router, named: NamedRouter, at: number): Fault {
  const text = (name: string, options: RouterSettings): string => `"${name}" ${JSON.stringify(options)}`;
  return {
    path: `moebius.routers[${at}]`,
    expectation: `must agree with the router given, ${text(router.name, router.options ?? {})}`,
    got: text(named.name, named.options),
    remedy: 'give that router, or leave the section out of config.json',
  };
}

function otherKind(kind: ExpertKind, named: NamedExperts, at: number): Fault {
  return {
    path: `moebius.experts[${at}].name`,
    expectation: `must agree with the kind given, "${kind.name}"`,
    got: JSON.stringify(named.name),
    remedy: 'give that kind, or leave the section out of config.json',
  };
}

/**
 * The section of config.json that names parts, or undefined when all are the family's own.
 *
 * @param config - the model
 * @param parts - what it is made of
 */
export function describeParts(config: ModelConfig, parts: ModelParts): ModelExtension | undefined {
  const usual = topKRouter(familyOf(config).gate(denseSafe(config)));
  const routers: { name: string; options: RouterSettings; layers: number[] }[] = [];
  const experts: { name: string; layers: number[]; experts?: number[] }[] = [];
  for (const [layer, router] of parts.routers.entries()) {
    if (router === null) continue;
    const { name, options = {} } = router;
    const same = routers.find((entry) => entry.name === name && isSame(entry.options, options));
    if (same === undefined) routers.push({ name, options, layers: [layer] });
    else same.layers.push(layer);
    for (const entry of kindsOfLayer(parts.experts[layer] ?? [])) {
      const alike = experts.find(
        (other) => other.name === entry.name && isSame(other.experts, entry.experts),
      );
      if (alike === undefined) experts.push({ ...entry, layers: [layer] });
      else alike.layers.push(layer);
    }
  }
  const onlyUsual = routers.every((entry) => isNamed(usual, entry));
  const onlyGated = experts.every(({ name }) => name === gatedExpert().name);
  const shared = config.moebius?.shared;
  if (onlyUsual && onlyGated && shared === undefined) return undefined;
  return {
    schemaVersion: 1,
    ...(onlyUsual ? {} : { routers }),
    ...(onlyGated ? {} : { experts }),
    ...(shared === undefined ? {} : { shared }),
  };
}

function kindsOfLayer(kinds: readonly ExpertKind[]): { name: string; experts?: number[] }[] {
  const names = [...new Set(kinds.map(({ name }) => name))];
  if (names.length <= 1) return names.map((name) => ({ name }));
  return names.map((name) => ({
    name,
    experts: [...kinds.keys()].filter((expert) => kinds[expert]?.name === name),
  }));
}
