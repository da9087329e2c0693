/** @file The C++ sources of the addon: TensorFlow.js's binding (from its package) and our kernels (from ours). */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { setupError } from './errors.ts';
import { tfjsVersion } from './recipe.ts';

/** Everything that is compiled, and a hash over all of it. */
export interface AddonSources {
  /** `binding/tfjs_*.cc` of tfjs-node-gpu: always in the addon. */
  readonly binding: readonly string[];
  /** Fused kernels, `native/*.cc` of this package; left out when they do not compile. */
  readonly kernels: readonly string[];
  /** `native/loader/quiet_load.cc`: a second, tiny addon. */
  readonly loader: string;
  /** Header folders in the order of `-I`, without TensorFlow's. */
  readonly includes: readonly string[];
  /** 16 hex digits over names and bytes of all sources and of the headers beside them. */
  readonly hash: string;
  /** Every file the hash is over. */
  readonly hashed: readonly string[];
  /** Folder of the tfjs-node-gpu package. */
  readonly tfjsNode: string;
}

/** The folder of this package, found from this file upwards (works from `src` and from `dist`). */
export function packageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const manifest = join(folder, 'package.json');
    if (existsSync(manifest) && readFileSync(manifest, 'utf8').includes('"@moebius/tensor"')) return folder;
    const parent = dirname(folder);
    if (parent === folder) {
      throw setupError('sources', '@moebius/tensor: its package.json must lie above its code, found none');
    }
    folder = parent;
  }
}

/**
 * Finds a package's folder from this package, then from the other folders given.
 *
 * @param name - package name
 * @param from - further folders to resolve from, for example the user's project
 * @returns the folder, or undefined when it is not installed
 */
export function findPackage(
  name: string,
  from: readonly string[] = [],
  { only = false }: { /** Look nowhere else. */ readonly only?: boolean } = {},
): string | undefined {
  for (const base of only ? from : [packageFolder(), ...from]) {
    try {
      return dirname(createRequire(join(base, 'package.json')).resolve(`${name}/package.json`));
    } catch {
      // Not installed there: try the next folder.
    }
  }
  return undefined;
}

/**
 * Collects the sources of the addon and hashes them.
 *
 * @param from - further folders to resolve tfjs-node-gpu from
 * @throws `engine` when tfjs-node-gpu is not installed or has another version than the recipe's
 */
export function collectSources(from: readonly string[] = []): AddonSources {
  const tfjsNode = findPackage('@tensorflow/tfjs-node-gpu', from);
  const headers = findPackage('node-api-headers', from);
  if (tfjsNode === undefined || headers === undefined) {
    const missing = tfjsNode === undefined ? '@tensorflow/tfjs-node-gpu' : 'node-api-headers';
    throw setupError(
      'sources',
      `${missing}: must be installed for the native engine, found nothing (npm i --ignore-scripts ${missing}@${tfjsNode === undefined ? tfjsVersion : 'latest'})`,
    );
  }
  const installed = String(
    (JSON.parse(readFileSync(join(tfjsNode, 'package.json'), 'utf8')) as { version?: string }).version,
  );
  if (installed !== tfjsVersion) {
    throw setupError(
      'sources',
      `@tensorflow/tfjs-node-gpu: must be ${tfjsVersion}, got ${installed} (npm i --ignore-scripts @tensorflow/tfjs-node-gpu@${tfjsVersion})`,
      undefined,
      { expected: tfjsVersion, installed },
    );
  }
  const kernelFolder = join(packageFolder(), 'native');
  const bindingFolder = join(tfjsNode, 'binding');
  const loader = join(kernelFolder, 'loader', 'quiet_load.cc');
  const binding = filesIn(bindingFolder, /\.cc$/);
  const kernels = filesIn(kernelFolder, /\.cc$/);
  const hashed = [...filesIn(bindingFolder, /\.(cc|h)$/), loader, ...filesIn(kernelFolder, /\.(cc|h|inc)$/)];
  return {
    binding,
    kernels,
    loader,
    includes: [kernelFolder, join(tfjsNode, '..'), join(headers, 'include')],
    hash: hashFiles(hashed),
    hashed,
    tfjsNode,
  };
}

function filesIn(folder: string, pattern: RegExp): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => join(folder, name));
}

/**
 * Hash over names and bytes of files, 16 hex digits.
 *
 * @param files - in a fixed order
 */
export function hashFiles(files: readonly string[]): string {
  const hash = createHash('sha256');
  for (const file of files) {
    const bytes = readFileSync(file);
    hash.update(`${file.split(/[\\/]/).at(-1)}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest('hex').slice(0, 16);
}
