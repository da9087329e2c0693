/**
 * @file Plug-ins by value, and registries for the few places where a string must become code: the command line, recipe
 * files, checkpoint manifests. A registry is a value too: none is global.
 */
import { MoebiusError } from './errors.ts';
import { nearest } from './nearest.ts';

const marker: unique symbol = Symbol.for('moebius.plugin') as never;

/** What every plug-in has. The rest of its fields belong to the package that defines the kind. */
export interface Plugin {
  /** The extension point: `router`, `balance-loss`, `executor`, … */
  readonly kind: string;
  /** Its name in configurations: kebab-case. */
  readonly name: string;
}

const NAME = /^[a-z0-9]+(-[a-z0-9]+)*$/;

/**
 * Checks and freezes a plug-in. Packages wrap this in their own `defineRouter`, `defineExecutor`, ….
 *
 * @param plugin - not changed; a frozen copy is returned
 * @throws `plugin` when kind or name is not kebab-case.
 * @example
 * ```ts
 * const greedy = definePlugin({ kind: 'sampler', name: 'greedy', pick: (logits: Float32Array) => 0 });
 * ```
 */
export function definePlugin<const P extends Plugin>(plugin: P): Readonly<P> {
  for (const field of ['kind', 'name'] as const) {
    const value: unknown = plugin?.[field];
    if (typeof value === 'string' && NAME.test(value)) continue;
    throw new MoebiusError({
      code: 'plugin',
      message: `plugin ${field}: must be kebab-case, got ${JSON.stringify(value) ?? 'undefined'} (for example "top-k")`,
      details: { field, value: String(value) },
    });
  }
  const copy = { ...plugin };
  Object.defineProperty(copy, marker, { value: true });
  return Object.freeze(copy);
}

/**
 * Whether a value came out of {@link definePlugin}, of any copy of this package.
 *
 * @param kind - when given, it must also be of this kind
 */
export function isPlugin(value: unknown, kind?: string): value is Plugin {
  if (typeof value !== 'object' || value === null || !(marker in value)) return false;
  return kind === undefined || (value as unknown as Plugin).kind === kind;
}

/** The names in a tuple of plug-ins. */
export type PluginName<L extends readonly Plugin[]> = L[number]['name'];

/** A literal name must be a known one; a plain `string` is checked at run time. */
export type KnownName<L extends readonly Plugin[], N extends string> = string extends N
  ? N
  : N & PluginName<L>;

/** What a name stands for. */
export type PluginNamed<L extends readonly Plugin[], N extends string> = string extends N
  ? L[number]
  : Extract<L[number], { readonly name: N }>;

/** A closed set of plug-ins of one kind. */
export interface Registry<L extends readonly Plugin[]> {
  /** The plug-in of this name. Unknown literals do not compile; unknown strings throw `registry`. */
  get<const N extends string>(name: KnownName<L, N>): PluginNamed<L, N>;
  /** Whether a name is known. */
  has(name: string): name is PluginName<L>;
  /** Known names, in the order given. */
  names(): readonly PluginName<L>[];
  /** The plug-ins, in the order given. */
  readonly plugins: L;
}

/**
 * Makes a registry from plug-ins of one kind.
 *
 * @throws `registry` when two have one name or their kinds differ.
 * @throws `plugin` when one was not made by {@link definePlugin}.
 */
export function createRegistry<const L extends readonly Plugin[]>(plugins: L): Registry<L> {
  const byName = new Map<string, Plugin>();
  for (const plugin of plugins) {
    assertMember(plugin, plugins[0]?.kind, byName);
    byName.set(plugin.name, plugin);
  }
  const kind = plugins[0]?.kind ?? 'plugin';
  const lookUp = (name: string): Plugin => {
    const found = byName.get(name);
    if (found === undefined) throw unknownName(kind, name, [...byName.keys()]);
    return found;
  };
  return Object.freeze({
    get: lookUp as Registry<L>['get'],
    has: (name: string): name is PluginName<L> => byName.has(name),
    names: () => [...byName.keys()] as PluginName<L>[],
    plugins,
  });
}

function assertMember(plugin: Plugin, kind: string | undefined, byName: ReadonlyMap<string, Plugin>): void {
  if (!isPlugin(plugin)) {
    throw new MoebiusError({
      code: 'plugin',
      message: `registry: every entry must be made by definePlugin, got ${JSON.stringify((plugin as Plugin | undefined)?.name) ?? 'nothing'}`,
    });
  }
  if (plugin.kind !== kind) {
    throw new MoebiusError({
      code: 'registry',
      message: `registry: every plug-in must be of kind "${kind}", got "${plugin.name}" of kind "${plugin.kind}" (make one registry per kind)`,
      details: { kind: kind ?? '', name: plugin.name, got: plugin.kind },
    });
  }
  if (byName.has(plugin.name)) {
    throw new MoebiusError({
      code: 'registry',
      message: `registry of ${plugin.kind}: names must be unique, got "${plugin.name}" twice (rename one)`,
      details: { name: plugin.name },
    });
  }
}

function unknownName(kind: string, name: string, known: readonly string[]): MoebiusError {
  const close = nearest(name, known);
  const list = known.length === 0 ? 'none' : known.join(', ');
  return new MoebiusError({
    code: 'registry',
    message: `${kind}: must be one of ${list}, got ${JSON.stringify(name)}${close === undefined ? '' : ` (did you mean "${close}"?)`}`,
    details: { kind, name: String(name), known: [...known], nearest: close ?? null },
  });
}
