/** @file Loads TensorFlow.js's WebAssembly engine from the files of its package: SIMD, no network. */
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';

import * as tf from '@tensorflow/tfjs';
import { setWasmPaths, version_wasm as version } from '@tensorflow/tfjs-backend-wasm';

import { setupError } from '../setup/errors.ts';

/** A loaded wasm engine. */
export interface LoadedWasm {
  readonly backendName: 'wasm';
  readonly version: string;
  readonly simd: boolean;
}

/**
 * Loads the wasm engine and makes it TensorFlow.js's current backend. One thread: its threaded build starts browser
 * workers from blob URLs, which Node does not have.
 *
 * @throws `engine` when it does not start
 */
export async function loadWasm(): Promise<LoadedWasm> {
  const folder = dirname(
    createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm/package.json'),
  );
  setWasmPaths(join(folder, 'wasm-out') + sep);
  if (!(await tf.setBackend('wasm'))) {
    throw setupError(
      'load',
      `wasm engine: must start from ${folder}, got a refusal from TensorFlow.js (reinstall @tensorflow/tfjs-backend-wasm@${version})`,
    );
  }
  return { backendName: 'wasm', version, simd: Boolean(await tf.env().getAsync('WASM_HAS_SIMD_SUPPORT')) };
}
