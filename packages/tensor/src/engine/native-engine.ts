/** @file Loads the native engine: the addon from the cache, TensorFlow.js's own kernels and backend class around it. */
import { createRequire } from 'node:module';
import { join } from 'node:path';

import * as tf from '@tensorflow/tfjs';

import { registerNativeKernels } from '../native/kernels.ts';
import { messageOf, setupError } from '../setup/errors.ts';
import { addonFile, loaderFile } from '../setup/layout.ts';
import { type SetupOptions, planEngine } from '../setup/setup-engine.ts';
import { findDamage, readStamp } from '../setup/stamp.ts';
import { prepareLoadEnvironment } from './process-environment.ts';
import { findStockLibrary } from './stock-library.ts';

/** A loaded native engine. */
export interface LoadedNative {
  readonly backendName: 'tensorflow';
  /** TensorFlow's version, as the library reports it. */
  readonly tensorflow: string;
  readonly fused: boolean;
  readonly fusedProblem: string;
}

interface BackendModule {
  readonly NodeJSKernelBackend: new (addon: unknown, packageName: string) => tf.KernelBackend;
}

interface QuietLoader {
  /** Loads a library; returns what it wrote to stderr meanwhile. */
  load(path: string): string;
}

/** Lines that TensorFlow writes at every load, before its log level can be set. */
const knownLines = /^WARNING: All log messages before absl::InitializeLog|oneDNN custom operations are on/;

/**
 * Checks that the engine is in the cache, loads it and makes it TensorFlow.js's current backend.
 *
 * @param options - where to look
 * @param threads - threads inside one operation
 * @throws `engine` when it is missing, damaged or does not load
 */
export function loadNative(options: SetupOptions, threads: number | undefined): LoadedNative {
  const plan = planEngine(options);
  for (const [name, folder] of [
    ['TensorFlow library', plan.layout.library],
    ['addon', plan.layout.addon],
  ] as const) {
    const damage = findDamage(folder, (path) => !path.startsWith('include/'));
    if (damage === undefined) continue;
    throw setupError(
      'cache',
      `${name}: must be set up in ${folder}, got ${damage} (npx @moebius/tensor setup)`,
      undefined,
      { folder },
    );
  }
  prepareLoadEnvironment({ threads });
  restoreRemovedUtilities();
  const require = createRequire(join(plan.sources.tfjsNode, 'package.json'));
  let addon: { readonly TF_Version: string };
  try {
    const loader = require(join(plan.layout.addon, loaderFile)) as QuietLoader;
    printUnknownLines(loader.load(join(plan.layout.addon, addonFile)));
    addon = require(join(plan.layout.addon, addonFile)) as typeof addon;
  } catch (error) {
    throw setupError(
      'load',
      `addon: must load from ${plan.layout.addon}, got ${messageOf(error)} (npx @moebius/tensor setup --force)`,
      error,
    );
  }
  // The package name matters: '…-gpu' would claim a GPU device name for a CPU library.
  startBackend(require, addon, '@tensorflow/tfjs-node');
  const made = readStamp(plan.layout.addon)?.made ?? {};
  const fused = made['fused'] === true;
  if (fused) registerNativeKernels();
  return {
    backendName: 'tensorflow',
    tensorflow: addon.TF_Version,
    fused,
    fusedProblem: String(made['fusedProblem'] ?? ''),
  };
}

/**
 * Loads the library that tfjs-node's own install script downloaded; otherwise as {@link loadNative}.
 *
 * @param from - folders to look for tfjs-node in
 * @param threads - threads inside one operation
 * @throws `engine` when it is not installed or does not load
 */
export function loadStock(from: readonly string[] | undefined, threads: number | undefined): LoadedNative {
  const stock = findStockLibrary(from);
  prepareLoadEnvironment({ threads });
  restoreRemovedUtilities();
  const require = createRequire(join(stock.folder, 'package.json'));
  let addon: { readonly TF_Version: string };
  try {
    addon = require(stock.addon) as typeof addon;
  } catch (error) {
    throw setupError(
      'load',
      `stock library: must load from ${stock.addon}, got ${messageOf(error)} (reinstall ${stock.packageName}, or leave out the library option)`,
      error,
    );
  }
  startBackend(require, addon, stock.packageName);
  return {
    backendName: 'tensorflow',
    tensorflow: addon.TF_Version,
    fused: false,
    fusedProblem: 'the stock library has none',
  };
}

function startBackend(require: NodeJS.Require, addon: unknown, packageName: string): void {
  require('./dist/register_all_kernels');
  const { NodeJSKernelBackend } = require('./dist/nodejs_kernel_backend') as BackendModule;
  tf.registerBackend('tensorflow', () => new NodeJSKernelBackend(addon, packageName), 3);
  if (tf.setBackend('tensorflow') as unknown as boolean) return;
  throw setupError(
    'load',
    'native engine: its backend must start, got a refusal from TensorFlow.js (npx @moebius/tensor doctor)',
  );
}

/** tfjs-node calls `util.isNullOrUndefined` and `util.isArray`: Node 22 warns about them, Node 23 removed them. */
function restoreRemovedUtilities(): void {
  const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>;
  util['isNullOrUndefined'] = (value: unknown): boolean => value === null || value === undefined;
  util['isArray'] = Array.isArray;
}

function printUnknownLines(text: string): void {
  const unknown = text.split('\n').filter((line) => line !== '' && !knownLines.test(line));
  if (unknown.length > 0) process.stderr.write(`${unknown.join('\n')}\n`);
}
