/** @file The set-up as one call: look, lock, make what is missing, publish. Idempotent; milliseconds when nothing is to do. */
import { type MoebiusError } from '@moebius/core';

import { setupError } from './errors.ts';
import { withInstallLock } from './install-lock.ts';
import { type CacheLayout, defaultCacheFolder, planLayout } from './layout.ts';
import { describeMachine } from './machine.ts';
import { makeAddon } from './make-addon.ts';
import { makeLibrary } from './make-library.ts';
import { type SetupPorts, createSetupPorts } from './ports.ts';
import { sweepStaging } from './publish.ts';
import { type LibraryRecipe, libraryRecipes } from './recipe.ts';
import { type AddonSources, collectSources } from './sources.ts';
import { findDamage, findDeepDamage, readStamp } from './stamp.ts';

/** Options of {@link setupEngine}. */
export interface SetupOptions {
  /** Per-user cache; default `$XDG_CACHE_HOME/moebius` or `~/.cache/moebius`. */
  readonly cacheFolder?: string | undefined;
  /** A wheel that is already on this machine, instead of a download. Its sha256 is checked all the same. */
  readonly wheel?: string | undefined;
  /** Make the addon again even when it is there. */
  readonly force?: boolean | undefined;
  /** Read every byte of an existing engine and compare hashes, not only sizes. */
  readonly verify?: boolean | undefined;
  /** Further folders to look for tfjs-node-gpu in, for example the user's project. */
  readonly resolveFrom?: readonly string[] | undefined;
  /** How long to wait for another set-up of the same cache, in ms. Default 30 minutes. */
  readonly patienceMs?: number | undefined;
  /** The outside world; default the real one, silent. */
  readonly ports?: SetupPorts | undefined;
  /** The TensorFlow to use; default the pinned one of this platform. For tests. */
  readonly recipe?: LibraryRecipe | undefined;
  /** The C++ sources; default this package's and tfjs-node-gpu's. For tests. */
  readonly sources?: AddonSources | undefined;
}

/** What {@link setupEngine} did. */
export interface SetupReport {
  /** False when everything was there. */
  readonly changed: boolean;
  /** Whether our fused kernels are in the addon. */
  readonly fused: boolean;
  /** Why not; empty when they are. */
  readonly fusedProblem: string;
  /** Path of the addon. */
  readonly addon: string;
  /** Folder of the TensorFlow library. */
  readonly library: string;
  readonly tensorflow: string;
  readonly compiler: string;
  /** What was made and how long it took, in order. */
  readonly steps: readonly { readonly name: string; readonly milliseconds: number }[];
}

/** A plan of an engine on this machine: recipe, sources, and where it lies. */
export interface EnginePlan {
  readonly recipe: LibraryRecipe;
  readonly sources: AddonSources;
  readonly layout: CacheLayout;
}

/**
 * Works out which engine this machine should have and where it lies, without making anything.
 *
 * @throws `engine` when the platform has no recipe or tfjs-node-gpu is not installed
 */
export function planEngine(options: SetupOptions = {}): EnginePlan {
  const machine = describeMachine();
  const recipe = options.recipe ?? libraryRecipes[machine.platform];
  if (recipe === undefined || machine.musl) {
    const got = machine.musl ? `${machine.platform} with musl` : machine.platform;
    throw setupError(
      'platform',
      `native engine: needs one of ${Object.keys(libraryRecipes).join(', ')} with glibc, got ${got} (use engine 'wasm'; the README's platform table says more)`,
      undefined,
      { platform: machine.platform, musl: machine.musl },
    );
  }
  const sources = options.sources ?? collectSources(options.resolveFrom);
  const cacheFolder = options.cacheFolder ?? defaultCacheFolder();
  return { recipe, sources, layout: planLayout(cacheFolder, recipe, machine, sources.hash) };
}

/**
 * Sets up the native engine in the per-user cache.
 *
 * Safe to call from several processes at once and to interrupt at any moment: the cache holds the old or the new
 * engine, never half of one.
 *
 * @throws `engine`; `details.stage` says where, the message what to do. The caller can go on with engine 'wasm'.
 */
export async function setupEngine(options: SetupOptions = {}): Promise<SetupReport> {
  const ports = options.ports ?? createSetupPorts();
  const plan = planEngine(options);
  const examine = options.verify === true ? findDeepDamage : findDamage;
  const ready = async (): Promise<boolean> =>
    (await examine(plan.layout.library)) === undefined && (await examine(plan.layout.addon)) === undefined;
  if (options.force !== true && (await ready())) return reportOf(plan, []);
  return withInstallLock(plan.layout.root, ports, options.patienceMs ?? 30 * 60_000, async () => {
    await sweepStaging(plan.layout.root);
    const steps: { name: string; milliseconds: number }[] = [];
    const timed = async (name: string, work: () => Promise<unknown>): Promise<void> => {
      const start = ports.now();
      await work();
      steps.push({ name, milliseconds: Math.round(ports.now() - start) });
    };
    if ((await examine(plan.layout.library)) !== undefined) {
      await timed('library', () => makeLibrary(plan.layout, plan.recipe, ports, { wheel: options.wheel }));
    }
    if (options.force === true || (await examine(plan.layout.addon)) !== undefined) {
      await timed('addon', () => makeAddon(plan.layout, plan.recipe, plan.sources, ports));
    }
    return reportOf(plan, steps);
  });
}

function reportOf(plan: EnginePlan, steps: SetupReport['steps']): SetupReport {
  const made = readStamp(plan.layout.addon)?.made ?? {};
  return {
    changed: steps.length > 0,
    fused: made['fused'] === true,
    fusedProblem: String(made['fusedProblem'] ?? ''),
    addon: plan.layout.addon,
    library: plan.layout.library,
    tensorflow: plan.recipe.tensorflow,
    compiler: String(made['compiler'] ?? ''),
    steps,
  };
}

/** The error type this module throws, for callers that fall back. */
export type SetupError = MoebiusError;
