/**
 * @file What a run takes from its plug-ins: callbacks at once, balance losses, the executor, the router and the kind of
 * experts by name.
 */
import { MoebiusError, isPlugin, nearest } from '@moebius/core';
import type { Plugin } from '@moebius/core';
import type { PartsChoice, WeightedLoss } from '@moebius/model';
import { builtInExperts } from '@moebius/routing';
import { builtInRouters } from '@moebius/routing/gates';
import type { BalanceLoss, ExpertExecutor, ExpertKind, Router, RouterFactory } from '@moebius/routing';
import { builtInLosses, createLoss } from '@moebius/routing/losses';
import { optimizers } from '@moebius/tensor';
import type { OptimizerDefinition } from '@moebius/tensor';

import type { Callback } from '../trainer/callback.ts';
import type { TrainConfig } from '../trainer/train-config.ts';
import { loadPlugins } from './load-plugins.ts';
import type { LoadPluginsOptions, LoadedPlugin } from './load-plugins.ts';

/** The plug-ins that a run uses. */
export interface RunPlugins {
  /** All callbacks, in the order of `plugins`. */
  readonly callbacks: readonly Callback[];
  /** The losses named in `losses.balance`. */
  readonly balance: readonly WeightedLoss[];
  /** The executor named in `executor`. */
  readonly executor: ExpertExecutor | undefined;
  /** The optimizer named in `optimizer.kind`; undefined: a built-in one. */
  readonly optimizer: OptimizerDefinition | undefined;
  /** The router named in `router`, the kind named in `expertKind`, and all routers and kinds for a model that names its own. */
  readonly parts: PartsChoice;
}

const usableKinds = [
  'callback',
  'balance-loss',
  'executor',
  'optimizer',
  'router',
  'router-factory',
  'expert',
] as const;
const routerKinds = ['router', 'router-factory'] as const;
/** Names in metrics that losses have which are built in. */
const takenLosses = [...Object.keys(builtInLosses), 'logit-z-loss'];

/**
 * Loads the plug-ins of a configuration and picks those it names.
 *
 * @throws `plugin` when one cannot be loaded or is of a kind that a run cannot use
 * @throws `configuration` when a name is not that of a loaded plug-in of the kind
 */
export async function loadRunPlugins(config: TrainConfig, options: LoadPluginsOptions): Promise<RunPlugins> {
  const loaded = await loadPlugins(config.plugins ?? [], options);
  for (const entry of loaded) assertUsable(entry);
  const plugins = loaded.map(({ plugin }) => plugin);
  const own = plugins.filter(({ kind }) => kind === 'expert' || isRouterKind(kind));
  return {
    callbacks: plugins.filter((plugin): plugin is Callback => isPlugin(plugin, 'callback')),
    balance: Object.entries(config.losses.balance ?? {}).map(([name, given]) => {
      const { coefficient, ...options } = typeof given === 'number' ? { coefficient: given } : given;
      return { loss: chooseLoss(plugins, { name, options, config }), coefficient };
    }),
    executor:
      config.executor === undefined
        ? undefined
        : (pick(plugins, ['executor'], { name: config.executor, path: 'executor' }) as ExpertExecutor),
    optimizer: optimizers.has(config.optimizer.kind)
      ? undefined
      : (pick(plugins, ['optimizer'], {
          name: config.optimizer.kind,
          path: 'optimizer.kind',
        }) as OptimizerDefinition),
    parts: {
      ...(own.length === 0 ? {} : { plugins: own }),
      ...(config.router === undefined ? {} : { router: chooseRouter(plugins, config.router) }),
      ...(config.expertKind === undefined ? {} : { experts: chooseExpert(plugins, config.expertKind) }),
    },
  };
}

function isRouterKind(kind: string): boolean {
  return (routerKinds as readonly string[]).includes(kind);
}

/** The router as it is, or made for each layer from its options. */
function chooseRouter(
  plugins: readonly Plugin[],
  { name, ...options }: NonNullable<TrainConfig['router']>,
): NonNullable<PartsChoice['router']> {
  const found = pick([...plugins, ...builtInRouters()], routerKinds, { name, path: 'router.name' });
  if (isPlugin(found, 'router-factory')) return (place) => (found as RouterFactory).create(place, options);
  const extra = Object.keys(options);
  if (extra.length === 0) return found as Router;
  throw new MoebiusError({
    code: 'configuration',
    message: `router: must have no options beside name, because "${name}" is a router and no factory, got ${extra.join(', ')} (make it with defineRouterFactory)`,
    details: { name, extra },
  });
}

/** A loss of the plug-ins, or a built-in one made from its options. */
function chooseLoss(plugins: readonly Plugin[], { name, options, config }: LossChoice): BalanceLoss {
  const path = `losses.balance.${name}`;
  const extra = Object.keys(options);
  if (name in builtInLosses) {
    const { losses, batch } = config;
    const other = { 'load-balance': losses.loadBalance, 'z-loss': losses.gateZ }[name] ?? 0;
    if (other > 0) throw chosenTwice(name, other);
    const needsLength = options['pooling'] === 'per-sequence' || name === 'localized-balance';
    return createLoss(name, needsLength ? { sequenceTokens: batch.length, ...options } : options, path);
  }
  const known = Object.keys(builtInLosses).map((builtIn) => ({ kind: 'balance-loss', name: builtIn }));
  const found = pick([...plugins, ...known], ['balance-loss'], { name, path }) as BalanceLoss;
  if (extra.length === 0) return found;
  throw new MoebiusError({
    code: 'configuration',
    message: `${path}: must have no options beside coefficient, because it is a plug-in, got ${extra.join(', ')} (make the loss with them)`,
    details: { name, extra },
  });
}

interface LossChoice {
  readonly name: string;
  readonly options: { readonly [option: string]: unknown };
  readonly config: TrainConfig;
}

function chosenTwice(name: string, other: number): MoebiusError {
  const field = name === 'z-loss' ? 'losses.gateZ' : 'losses.loadBalance';
  return new MoebiusError({
    code: 'configuration',
    message: `losses.balance.${name}: must not stand beside ${field}, got ${field} ${other} (set that to 0)`,
    details: { name, other },
  });
}

function chooseExpert(plugins: readonly Plugin[], name: string): ExpertKind {
  const all = [...plugins, ...builtInExperts()];
  return pick(all, ['expert'], { name, path: 'expertKind' }) as ExpertKind;
}

function assertUsable({ plugin: { kind, name }, specifier }: LoadedPlugin): void {
  if (!(usableKinds as readonly string[]).includes(kind)) {
    throw new MoebiusError({
      code: 'plugin',
      message: `plugins ${JSON.stringify(specifier)}: must be of kind ${usableKinds.join(', ')}, got "${name}" of kind "${kind}" (a run takes no plug-ins of that kind: use it in your own code)`,
      details: { specifier, kind, name },
    });
  }
  if (kind === 'balance-loss' && takenLosses.includes(name)) {
    throw new MoebiusError({
      code: 'plugin',
      message: `plugins ${JSON.stringify(specifier)}: a balance loss must have a name of its own, got "${name}", which is built in (rename it)`,
      details: { specifier, name },
    });
  }
  if (kind === 'optimizer' && optimizers.has(name)) {
    throw new MoebiusError({
      code: 'plugin',
      message: `plugins ${JSON.stringify(specifier)}: an optimizer must have a name of its own, got "${name}", which is built in (rename it)`,
      details: { specifier, name },
    });
  }
}

function pick(
  plugins: readonly Plugin[],
  kinds: readonly (typeof usableKinds)[number][],
  wanted: { readonly name: string; readonly path: string },
): Plugin {
  const { name, path } = wanted;
  const candidates = plugins.filter((plugin) => (kinds as readonly string[]).includes(plugin.kind));
  const found = candidates.find((plugin) => plugin.name === name);
  if (found !== undefined) return found;
  const known = candidates.map((plugin) => plugin.name);
  const kind = kinds[0] ?? 'callback';
  const other = plugins.find((plugin) => plugin.name === name);
  const close = nearest(name, known);
  const got = other === undefined ? JSON.stringify(name) : `${JSON.stringify(name)} of kind "${other.kind}"`;
  const remedy = close === undefined ? 'add its module to plugins' : `did you mean "${close}"?`;
  throw new MoebiusError({
    code: 'configuration',
    message: `${path}: must name a plug-in of kind ${kind} (${known.length === 0 ? 'none' : known.join(', ')}), got ${got} (${remedy})`,
    details: { path, kind, name, known },
  });
}
