/**
 * @file Where things lie in the per-user cache, and their keys.
 *
 * ```
 * <cache>/engine/
 *   wheels/<wheel file>                 downloaded; removed once its library is published
 *   libraries/<library key>/            libtensorflow_*.so.2, include/, stamp.json
 *   addons/<addon key>/moebius.node     + stamp.json; finds its library by $ORIGIN/../../libraries/<key>
 *   staging/                            unfinished work; never read, swept when its owner is gone
 *   lock/                               held while something is made
 * ```
 */
import { createHash } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';

import { type Machine } from './machine.ts';
import { type LibraryRecipe, compileFlags, recipeVersion, tfjsVersion } from './recipe.ts';

/** Paths of one engine in the cache. */
export interface CacheLayout {
  /** `<cache>/engine`. */
  readonly root: string;
  readonly wheels: string;
  readonly libraries: string;
  readonly addons: string;
  /** Folder of the TensorFlow library that the recipe asks for. */
  readonly library: string;
  /** Folder of the addon made of these sources for this machine. */
  readonly addon: string;
}

/** The addon's file name inside its folder. */
export const addonFile = 'moebius.node';

/** The loader's file name beside it; see `native/loader`. */
export const loaderFile = 'quiet-load.node';

/**
 * The per-user cache folder: `$XDG_CACHE_HOME/moebius`, else `~/.cache/moebius`.
 *
 * @param environment - environment variables to read
 */
export function defaultCacheFolder(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const base = environment['XDG_CACHE_HOME'];
  return join(base === undefined || base === '' ? join(homedir(), '.cache') : base, 'moebius');
}

/**
 * Computes the paths of an engine.
 *
 * @param cacheFolder - the per-user cache
 * @param recipe - TensorFlow library recipe
 * @param machine - what the addon is compiled for
 * @param sourcesHash - `AddonSources.hash`
 */
export function planLayout(
  cacheFolder: string,
  recipe: LibraryRecipe,
  machine: Machine,
  sourcesHash: string,
): CacheLayout {
  const root = join(cacheFolder, 'engine');
  const libraryKey = `tensorflow-${recipe.tensorflow}-${machine.platform}-r${recipeVersion}-${recipe.wheel.sha256.slice(0, 8)}`;
  const flags = createHash('sha256').update(compileFlags.join('\0')).digest('hex').slice(0, 8);
  const addonKey = `tfjs-${tfjsVersion}-${libraryKey}-cpu${machine.processor}-f${flags}-s${sourcesHash}`;
  const libraries = join(root, 'libraries');
  const addons = join(root, 'addons');
  return {
    root,
    wheels: join(root, 'wheels'),
    libraries,
    addons,
    library: join(libraries, libraryKey),
    addon: join(addons, addonKey),
  };
}
