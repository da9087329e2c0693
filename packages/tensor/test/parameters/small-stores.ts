/** @file Small stores with deterministic values, what is done to them, and optimizers of every kind. */
import { createMemoryState, isMoebiusError, runSync } from '@moebius/core';
import type { MemoryState } from '@moebius/core';

import { createParameterStore, disposeTree, exportParameters } from '../../src/index.ts';
import type { OptimizerSettings, ParameterStore, Tensor } from '../../src/index.ts';
import { sampleTensor, toList } from '../../src/testing/index.ts';

/** One of every rule and slot count. */
export const kinds: readonly OptimizerSettings[] = [
  { lr: 0.05 },
  { kind: 'sgd', lr: 0.05 },
  { kind: 'sgd', lr: 0.05, momentum: 0.9, nesterov: true },
  { kind: 'muon', lr: 0.05 },
];

/** Two matrices of one shape, one of another, a vector, and a matrix that Muon leaves to AdamW. */
export function mixedStore(): ParameterStore {
  const parameter = (shape: number[], seed: number, unit: string) => ({
    shape,
    data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(seed + i)),
    unit,
  });
  return createParameterStore({
    'layers.0.up.weight': parameter([6, 4], 1, 'a'),
    'layers.1.up.weight': parameter([6, 4], 2, 'a'),
    'layers.1.norm.weight': parameter([4], 3, 'a'),
    'layers.1.mlp.gate.weight': parameter([3, 4], 4, 'b'),
    'layers.1.down.weight': parameter([4, 6], 5, 'b'),
  });
}

/** A gradient for each parameter; the caller owns them. */
export function gradientsOf(store: ParameterStore, seed: number): { [id: string]: Tensor } {
  return Object.fromEntries(store.ids().map((id) => [id, sampleTensor(store.shape(id), `${id} ${seed}`)]));
}

/** One update with gradients of a seed; its norm. */
export function step(
  store: ParameterStore,
  seed: number,
  options: Parameters<ParameterStore['update']>[1],
): number {
  const gradients = gradientsOf(store, seed);
  const { norm } = store.update(gradients, options);
  disposeTree(gradients);
  return norm;
}

/** Every value. */
export function valuesOf(store: ParameterStore): { [id: string]: number[] } {
  return Object.fromEntries(store.ids().map((id) => [id, toList(store.read(id))]));
}

/** The store with its state, in memory. */
export function save(store: ParameterStore): MemoryState {
  const state = createMemoryState();
  const writer = state.writer();
  const snapshot = store.capture(undefined, { moments: true });
  runSync(writer.begin());
  runSync(exportParameters(snapshot, writer));
  runSync(writer.commit());
  snapshot.dispose();
  return state;
}

/** Code and message of what an action throws. */
export function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return isMoebiusError(error) ? `${error.code}: ${error.message}` : String(error);
  }
  return 'nothing was thrown';
}
