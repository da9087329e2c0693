/**
 * @file Plain nested arrays for oracles, and the way from and to tensors.
 */
import { createRng } from '@moebius/core';
import { tensor as makeTensor } from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { readHostSync } from '../ownership.ts';

/** Rows of numbers. */
export type Matrix = number[][];

/** A rank-2 tensor `[R, C]` as rows of numbers. */
export function toMatrix(tensor: Tensor): Matrix {
  const [rows = 0, columns = 0] = tensor.shape;
  const flat = readHostSync(tensor);
  return Array.from({ length: rows }, (_, r) =>
    Array.from({ length: columns }, (__, c) => flat[r * columns + c]!),
  );
}

/** A tensor `[…]` as a flat list of numbers. */
export function toList(tensor: Tensor): number[] {
  return Array.from(readHostSync(tensor));
}

/** Rows of zeros. */
export function zeroMatrix(rows: number, columns: number): Matrix {
  return Array.from({ length: rows }, () => Array.from({ length: columns }, () => 0));
}

/**
 * Normally distributed float32 values of a seed: the same on every machine.
 *
 * @param shape - `[…]`
 * @param seed - any string or number
 * @returns a tensor, owned by the caller
 */
export function sampleTensor(shape: readonly number[], seed: string | number, scale = 1): Tensor {
  const values = new Float32Array(shape.reduce((size, axis) => size * axis, 1));
  createRng(seed).fillNormal(values, { standardDeviation: scale });
  return makeTensor(values, [...shape], 'float32');
}

/** {@link sampleTensor} of rank 2 `[rows, columns]`. */
export function sampleMatrix(rows: number, columns: number, seed: string | number, scale = 1): Tensor2D {
  return sampleTensor([rows, columns], seed, scale) as Tensor2D;
}

/** {@link sampleTensor} of rank 1 `[size]`. */
export function sampleVector(size: number, seed: string | number, scale = 1): Tensor1D {
  return sampleTensor([size], seed, scale) as Tensor1D;
}
