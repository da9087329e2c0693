/** @file The native engine with our kernels, seeded inputs, and comparison with double-precision oracles. */
import { tensor1d, tensor2d } from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { expect } from 'vitest';

import { createEngine } from '../../src/engine/create-engine.ts';
import { nativeKernel, registerNativeKernels } from '../../src/native/kernels.ts';
import type { NativeAttributes } from '../../src/native/kernels.ts';

/** Starts the native engine; fails when it is not set up or has no kernels of ours. */
export async function startNative(): Promise<void> {
  const engine = await createEngine({ engine: 'native' });
  expect(engine.fused, 'the addon must hold our kernels').toBe(true);
  registerNativeKernels();
}

/** Runs a kernel and returns its outputs as arrays; frees inputs that `run` made and outputs. */
export function run(
  name: string,
  inputs: readonly Tensor[],
  attributes: NativeAttributes = {},
): Float32Array[] {
  const kernel = nativeKernel(name);
  if (kernel === undefined) throw new Error(`no kernel ${name}`);
  const outputs = kernel(inputs, attributes);
  const values = outputs.map((output) => output.dataSync() as Float32Array);
  for (const tensor of [...inputs, ...outputs]) tensor.dispose();
  return values;
}

/** A seeded stream of numbers in (−1, 1): a small linear congruence, enough for inputs. */
export function createNumbers(seed: number): (count: number, scale?: number) => Float64Array {
  let state = seed >>> 0;
  return (count, scale = 1) =>
    Float64Array.from({ length: count }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.fround((state / 2 ** 31 - 1) * scale);
    });
}

export const matrix = (values: ArrayLike<number>, rows: number, columns: number): Tensor2D =>
  tensor2d(Float32Array.from(values), [rows, columns]);
export const vector = (values: ArrayLike<number>): Tensor1D => tensor1d(Float32Array.from(values));
export const indices = (values: ArrayLike<number>): Tensor1D => tensor1d(Int32Array.from(values), 'int32');

/** Largest |got − want| relative to max(1, |want|) stays below `tolerance`. */
export function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, tolerance = 2e-4): void {
  expect(got.length).toBe(want.length);
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!) / Math.max(1, Math.abs(want[i]!));
    worst = error > worst || Number.isNaN(error) ? error : worst;
    if (Number.isNaN(error)) break;
  }
  expect(worst).toBeLessThan(tolerance);
}

/**
 * Central differences, in double precision, of sum(dy · f(inputs)) with respect to every element of every input.
 */
export function differences(
  f: (inputs: readonly Float64Array[]) => Float64Array,
  inputs: readonly Float64Array[],
  dy: ArrayLike<number>,
): Float64Array[] {
  const step = 1e-5;
  const value = (): number => f(inputs).reduce((total, y, i) => total + y * dy[i]!, 0);
  return inputs.map((input) =>
    input.map((kept, i) => {
      input[i] = kept + step;
      const above = value();
      input[i] = kept - step;
      const below = value();
      input[i] = kept;
      return (above - below) / (2 * step);
    }),
  );
}
