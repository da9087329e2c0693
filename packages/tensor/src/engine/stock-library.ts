/**
 * @file Finds the library that tfjs-node's own install script downloads: an explicit choice, and the way on systems that
 * our set-up does not cover. It is TensorFlow 2.9.1; our fused kernels are not in it, so portable bodies run.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { setupError } from '../setup/errors.ts';
import { tfjsVersion } from '../setup/recipe.ts';
import { findPackage, packageFolder } from '../setup/sources.ts';

/** An installed tfjs-node with its own addon. */
export interface StockLibrary {
  /** `@tensorflow/tfjs-node` or `@tensorflow/tfjs-node-gpu`. */
  readonly packageName: string;
  readonly folder: string;
  readonly addon: string;
}

const packageNames = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'];

/**
 * Looks for tfjs-node with an addon of its own, first in the given folders, then beside this package.
 *
 * @param from - folders to resolve from, for example the user's project
 * @throws `engine` when none is installed, its version is another one, or its install script did not run
 */
export function findStockLibrary(from: readonly string[] = []): StockLibrary {
  const tried: string[] = [];
  for (const packageName of packageNames) {
    const folder = findPackage(packageName, [...from, packageFolder()], { only: true });
    if (folder === undefined) continue;
    const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      version?: string;
    };
    if (version !== tfjsVersion) {
      tried.push(`${packageName} ${version ?? 'without a version'}, not ${tfjsVersion}`);
      continue;
    }
    const addon = newestAddon(folder);
    if (addon !== undefined) return { packageName, folder, addon };
    tried.push(`${packageName} without its addon: its install script did not run or could not download`);
  }
  const found = tried.length === 0 ? 'none installed' : tried.join('; ');
  throw setupError(
    'sources',
    `stock library: must be tfjs-node ${tfjsVersion} with the addon of its install script, got ${found} (npm i @tensorflow/tfjs-node@${tfjsVersion} with scripts allowed, or leave out the library option)`,
    undefined,
    { tried },
  );
}

/** `lib/napi-vN/tfjs_binding.node` of the largest N. */
function newestAddon(folder: string): string | undefined {
  const lib = join(folder, 'lib');
  if (!existsSync(lib)) return undefined;
  return readdirSync(lib)
    .map((name) => ({ version: Number(/^napi-v(\d+)$/.exec(name)?.[1]), name }))
    .filter(({ version }) => Number.isInteger(version))
    .toSorted((left, right) => right.version - left.version)
    .map(({ name }) => join(lib, name, 'tfjs_binding.node'))
    .find((path) => existsSync(path));
}
