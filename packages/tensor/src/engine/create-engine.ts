/**
 * @file Chooses and starts the engine that all tensors of this process live on.
 *
 * ```
 *  createEngine({ engine: 'auto' }) ──► native set up and loads? ──yes──► 'tensorflow' (all cores, fused kernels)
 *                                             │ no: says why
 *                                             └──────────────────────────► 'wasm' (SIMD, one thread)
 * ```
 */
import { availableParallelism } from 'node:os';

import { MoebiusError } from '@moebius/core';
import * as tf from '@tensorflow/tfjs';

import { messageOf } from '../setup/errors.ts';
import { loadNative, loadStock } from './native-engine.ts';
import { loadWasm } from './wasm-engine.ts';

/** The engines there are. `cpu` is plain JavaScript: the slow oracle for tests. */
export type EngineName = 'native' | 'wasm' | 'cpu';

/** Options of {@link createEngine}. */
export interface EngineOptions {
  /** Which engine; `auto` (default) is native when it loads, else wasm. */
  readonly engine?: EngineName | 'auto' | undefined;
  /** Threads inside one operation (native only); default all cores. */
  readonly threads?: number | undefined;
  /**
   * Which TensorFlow the native engine is: `current` (default), made by our set-up, with fused kernels; or `stock`, the one
   * that tfjs-node's install script downloads, without them.
   */
  readonly library?: 'current' | 'stock' | undefined;
  /** Where the native engine lies; default the per-user cache. */
  readonly cacheFolder?: string | undefined;
  /** Further folders to look for tfjs-node-gpu in, for example the user's project. */
  readonly resolveFrom?: readonly string[] | undefined;
  /** Receives one line for the user: the engine's description, or why native was not taken. */
  readonly onMessage?: ((line: string) => void) | undefined;
}

/** The running engine of this process. */
export interface Engine {
  readonly name: EngineName;
  /** One line: engine, versions, threads, and why it was chosen. */
  readonly description: string;
  /** Threads inside one operation. */
  readonly threads: number;
  /** Whether our fused C++ kernels are loaded. */
  readonly fused: boolean;
  /** TensorFlow.js's name of the backend. */
  readonly backendName: 'tensorflow' | 'wasm' | 'cpu';
  /** Versions of what runs, for logs and results. */
  readonly versions: Readonly<Record<string, string>>;
  /** Why `auto` did not take the native engine; empty when it did or was not asked. */
  readonly fallbackReason: string;
}

interface Asked {
  readonly engine: EngineName | 'auto';
  readonly threads: number | undefined;
}

interface Started {
  readonly engine: Promise<Engine>;
}

/** On `globalThis`, so that two copies of this package in one program agree: the native library exists once a process. */
const startedKey: unique symbol = Symbol.for('moebius.engine') as never;
const holder = globalThis as { [startedKey]?: Started };

/**
 * Starts the engine of this process, or returns it when it runs already.
 *
 * One process has one engine. A later call returns the running engine when it asks for the same, for `auto`, or for
 * no particular thread count; anything else is an error.
 *
 * @example
 * ```ts
 * const engine = await createEngine({ engine: 'auto' });
 * console.log(engine.description);
 * ```
 * @throws `engine` when the engine asked for does not start, or another one runs already
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const asked: Asked = { engine: options.engine ?? 'auto', threads: options.threads };
  checkOptions(asked, options.library);
  const running = holder[startedKey];
  if (running !== undefined) return joinRunning(running, asked);
  const engine = start(options);
  holder[startedKey] = { engine };
  try {
    return await engine;
  } catch (error) {
    delete holder[startedKey];
    throw error;
  }
}

/** The running engine, or undefined before {@link createEngine}. */
export async function currentEngine(): Promise<Engine | undefined> {
  return holder[startedKey]?.engine;
}

async function joinRunning(running: Started, asked: Asked): Promise<Engine> {
  const engine = await running.engine;
  const sameEngine = asked.engine === 'auto' || asked.engine === engine.name;
  const sameThreads = asked.threads === undefined || asked.threads === engine.threads;
  if (sameEngine && sameThreads) return engine;
  throw new MoebiusError({
    code: 'engine',
    message: `engine: one process has one engine, ${engine.name} with ${engine.threads} threads runs, got a request for ${asked.engine} with ${asked.threads ?? 'any'} threads (start a second process)`,
    details: {
      running: engine.name,
      runningThreads: engine.threads,
      asked: asked.engine,
      askedThreads: asked.threads ?? null,
    },
  });
}

function checkOptions(asked: Asked, library: string | undefined): void {
  if (library !== undefined && library !== 'current' && library !== 'stock') {
    throw new MoebiusError({
      code: 'engine',
      message: `library: must be current or stock, got ${library} (leave it out for current)`,
      details: { library },
    });
  }
  if (!['auto', 'native', 'wasm', 'cpu'].includes(asked.engine)) {
    throw new MoebiusError({
      code: 'engine',
      message: `engine: must be auto, native, wasm or cpu, got ${String(asked.engine)} (leave it out for auto)`,
      details: { asked: String(asked.engine) },
    });
  }
  const { threads } = asked;
  if (threads !== undefined && (!Number.isInteger(threads) || threads < 1 || threads > 1024)) {
    throw new MoebiusError({
      code: 'engine',
      message: `threads: must be a whole number from 1 to 1024, got ${threads} (leave it out for all cores)`,
      details: { threads },
    });
  }
}

async function start(options: EngineOptions): Promise<Engine> {
  const tell = options.onMessage ?? (() => {});
  // Quiets TensorFlow.js's console advice; its argument checks do not depend on it.
  tf.enableProdMode();
  let engine: Engine;
  if (options.engine === 'cpu') engine = await startCpu();
  else if (options.engine === 'wasm') engine = await startWasm('asked for', '');
  else if (options.engine === 'native') engine = startNative(options, 'asked for');
  else engine = await startBest(options);
  tell(engine.description);
  return engine;
}

async function startBest(options: EngineOptions): Promise<Engine> {
  try {
    return startNative(options, 'it is set up');
  } catch (error) {
    return startWasm('the native engine did not start', messageOf(error));
  }
}

function startNative(options: EngineOptions, why: string): Engine {
  const { library = 'current', cacheFolder, resolveFrom } = options;
  const loaded =
    library === 'stock'
      ? loadStock(resolveFrom, options.threads)
      : loadNative({ cacheFolder, resolveFrom }, options.threads);
  const threads = options.threads ?? availableParallelism();
  const kernels = loaded.fused ? 'fused kernels' : `no fused kernels: ${loaded.fusedProblem}`;
  return {
    name: 'native',
    description: `native: TensorFlow ${loaded.tensorflow}, TensorFlow.js ${tf.version.tfjs}, ${plural(threads)}, ${kernels} (${why})`,
    threads,
    fused: loaded.fused,
    backendName: loaded.backendName,
    versions: { tensorflow: loaded.tensorflow, tfjs: tf.version.tfjs, node: process.version },
    fallbackReason: '',
  };
}

async function startWasm(why: string, fallbackReason: string): Promise<Engine> {
  const loaded = await loadWasm();
  const because = fallbackReason === '' ? why : `${why}: ${fallbackReason}`;
  return {
    name: 'wasm',
    description: `wasm: TensorFlow.js ${tf.version.tfjs}, ${loaded.simd ? 'SIMD' : 'no SIMD'}, 1 thread (${because})`,
    threads: 1,
    fused: false,
    backendName: 'wasm',
    versions: { tfjs: tf.version.tfjs, wasm: loaded.version, node: process.version },
    fallbackReason,
  };
}

async function startCpu(): Promise<Engine> {
  await tf.setBackend('cpu');
  return {
    name: 'cpu',
    description: `cpu: TensorFlow.js ${tf.version.tfjs} in plain JavaScript, 1 thread (asked for; slow, for tests)`,
    threads: 1,
    fused: false,
    backendName: 'cpu',
    versions: { tfjs: tf.version.tfjs, node: process.version },
    fallbackReason: '',
  };
}

function plural(threads: number): string {
  return threads === 1 ? '1 thread' : `${threads} threads`;
}
