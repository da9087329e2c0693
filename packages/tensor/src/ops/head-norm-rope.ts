/**
 * @file What happens to queries and keys before attention: an RMS norm per head (Qwen3), then rotary positions.
 * Either part may be absent. A table of fewer than C/2 columns turns the first part of a head (partial rotary).
 *
 * Legend: `T` tokens · `H` heads · `C` head width · `Z` = H·C · `P` positions of the table.
 */
import { MoebiusError } from '@moebius/core';
import { add, concat, gather, mean, mul, neg, rsqrt, slice, square, sub, sum } from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D, Tensor3D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import type { NativeKernel } from '../native/kernels.ts';
import { cloneTensor, cloneTree, runOp } from '../ownership.ts';
import { assertCount, assertDivides, assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import { assertIndexRange, indexLength, toIndexTensor } from './index-tensor.ts';
import type { IndexTensor } from './index-tensor.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { as1D, as2D, as3D, zeros2D } from './reshape.ts';
import type { RotaryTable } from './rotary.ts';

/** Options of {@link headNormRopeForward}. */
export interface HeadNormRopeOptions {
  /** Number of heads `H`. */
  readonly heads: number;
  /** Added under the root of the norm; default 1e-6. */
  readonly epsilon?: number;
  /** int32 `[T]`: the position of each row; needed with a table. */
  readonly positions?: IndexTensor;
  /** Rotary table, borrowed; without one the rows are only normed. */
  readonly table?: RotaryTable;
}

/** What {@link headNormRopeBackward} needs. */
export interface HeadNormRopeSaved {
  /** float32 `[T, Z]`. */
  readonly x: Tensor2D;
  /** float32 `[C]`, or null without a norm. */
  readonly weight: Tensor1D | null;
  /** float32 `[T, H]`: reciprocal root mean square of each head, or null without a norm. */
  readonly inv: Tensor2D | null;
  /** Clones of the table, or null without one. */
  readonly table: RotaryTable | null;
  /** int32 `[T]`, or null without a table. */
  readonly positions: Tensor1D | null;
  /** Number of heads. */
  readonly heads: number;
}

/** Gradients of {@link headNormRopeForward}. */
export interface HeadNormRopeGradients {
  /** float32 `[T, Z]`. */
  readonly dx: Tensor2D;
  /** float32 `[C]`, when there was a weight. */
  readonly dweight?: Tensor1D;
}

/**
 * Per-head RMS norm, then rotary positions.
 *
 * @param x_TZ - float32 `[T, Z]`, borrowed
 * @param weight_C - float32 `[C]`, borrowed; null: no norm
 * @returns `y` float32 `[T, Z]` and what backward needs; the caller owns both
 * @throws `shape`; `data` on a position outside the table (host arrays only)
 */
export function headNormRopeForward(
  x_TZ: Tensor2D,
  weight_C: Tensor1D | null,
  options: HeadNormRopeOptions,
): Forward<Tensor2D, HeadNormRopeSaved> {
  const { heads, epsilon = 1e-6, table = null } = options;
  assertInputs(x_TZ, weight_C, options);
  return runOp('headNormRope', () => {
    const positions = table === null ? null : toIndexTensor(options.positions ?? new Int32Array(0));
    const parts = { heads, epsilon, positions, table };
    const kernel = nativeKernel('MoebiusHeadNormRope');
    const [value, inv] = kernel
      ? (kernel(kernelInputs(x_TZ, weight_C, parts), { heads, epsilon }) as [Tensor2D, Tensor2D])
      : portableForward(x_TZ, weight_C, parts);
    const saved: HeadNormRopeSaved = {
      x: cloneTensor(x_TZ),
      weight: weight_C === null ? null : cloneTensor(weight_C),
      inv: weight_C === null ? null : inv,
      table: table === null ? null : cloneTree({ cos: table.cos, sin: table.sin }),
      positions: positions === null ? null : cloneTensor(positions),
      heads,
    };
    return { value, saved };
  });
}

function assertInputs(x_TZ: Tensor2D, weight_C: Tensor1D | null, options: HeadNormRopeOptions): void {
  const { heads, positions, table } = options;
  assertShape(x_TZ, 'T Z', {}, 'headNormRope x');
  const [rows, width] = x_TZ.shape;
  const headSize = assertDivides(width, heads, 'headNormRope width by heads');
  if (weight_C !== null) assertShape(weight_C, 'C', { C: headSize }, 'headNormRope weight');
  if (table === undefined) return;
  const dims: Dims = {};
  assertShape(table.cos, 'P R/2', dims, 'headNormRope table.cos');
  assertShape(table.sin, 'P R/2', dims, 'headNormRope table.sin');
  const turned = 2 * table.cos.shape[1];
  if (turned > headSize) {
    throw new MoebiusError({
      code: 'shape',
      message: `headNormRope table: must turn at most the head width ${headSize}, got ${turned}`,
      details: { headSize, turned },
    });
  }
  assertCount(positions === undefined ? 0 : indexLength(positions), rows, 'headNormRope positions length');
  if (positions !== undefined) assertIndexRange(positions, table.cos.shape[0], 'headNormRope positions');
}

interface Parts {
  heads: number;
  epsilon: number;
  positions: Tensor1D | null;
  table: RotaryTable | null;
}

function kernelInputs(x_TZ: Tensor2D, weight_C: Tensor1D | null, parts: Omit<Parts, 'epsilon'>): Tensor[] {
  const { positions, table } = parts;
  return [
    x_TZ,
    weight_C ?? as1D(zeros2D(0, 1)),
    table?.cos ?? zeros2D(0, 0),
    table?.sin ?? zeros2D(0, 0),
    positions ?? toIndexTensor(new Int32Array(0)),
  ];
}

function portableForward(
  x_TZ: Tensor2D,
  weight_C: Tensor1D | null,
  parts: Parts,
): [Tensor2D, Tensor2D | null] {
  const { heads, epsilon, positions, table } = parts;
  const [rows, width] = x_TZ.shape;
  let x_THC = as3D(x_TZ, rows, heads, width / heads);
  let inv: Tensor2D | null = null;
  if (weight_C !== null) {
    const inv_TH1 = rsqrt(add(mean(square(x_THC), 2, true), epsilon));
    inv = as2D(inv_TH1, rows, heads);
    x_THC = mul(mul(x_THC, inv_TH1), weight_C);
  }
  if (table !== null && positions !== null) x_THC = rotate(x_THC, table, positions, 1);
  return [as2D(x_THC, rows, width), inv];
}

/** Turns each pair (i, i + half) by its angle; `direction` −1 turns back. */
function rotate(x_THC: Tensor3D, table: RotaryTable, positions: Tensor1D, direction: 1 | -1): Tensor3D {
  const [rows, heads, headSize] = x_THC.shape;
  const half = table.cos.shape[1];
  const cos = as3D(gather(table.cos, positions), rows, 1, half);
  const raw_sin = as3D(gather(table.sin, positions), rows, 1, half);
  const sin = direction === 1 ? raw_sin : neg(raw_sin);
  const first = slice(x_THC, [0, 0, 0], [rows, heads, half]);
  const second = slice(x_THC, [0, 0, half], [rows, heads, half]);
  const turned = [
    sub<Tensor3D>(mul(first, cos), mul(second, sin)),
    add<Tensor3D>(mul(second, cos), mul(first, sin)),
  ];
  const rest = headSize - 2 * half;
  if (rest > 0) turned.push(slice(x_THC, [0, 0, 2 * half], [rows, heads, rest]));
  return concat(turned, 2);
}

/**
 * Gradients of {@link headNormRopeForward}: turn back, then the gradient of the norm.
 *
 * @param saved - borrowed
 * @param dy_TZ - float32 `[T, Z]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function headNormRopeBackward(saved: HeadNormRopeSaved, dy_TZ: Tensor2D): HeadNormRopeGradients {
  const { x, weight, inv } = saved;
  const [rows, width] = x.shape;
  assertShape(dy_TZ, 'T Z', { T: rows, Z: width }, 'headNormRope dy');
  return runOp('headNormRope.backward', () => {
    const kernel = nativeKernel('MoebiusHeadNormRopeGrad');
    if (kernel) return nativeBackward(kernel, saved, dy_TZ);
    const { heads, table, positions } = saved;
    const dy_THC = as3D(dy_TZ, rows, heads, width / heads);
    const turned = table === null || positions === null ? dy_THC : rotate(dy_THC, table, positions, -1);
    if (weight === null || inv === null) return { dx: as2D(turned, rows, width) };
    const inv_TH1 = as3D(inv, rows, heads, 1);
    const unit = mul(as3D(x, rows, heads, width / heads), inv_TH1);
    const scaled = mul(turned, weight);
    const along = mean(mul(scaled, unit), 2, true);
    const dx = as2D(mul(inv_TH1, sub(scaled, mul(unit, along))), rows, width);
    return { dx, dweight: sum<Tensor1D>(mul(turned, unit), [0, 1]) };
  });
}

function nativeBackward(
  kernel: NativeKernel,
  saved: HeadNormRopeSaved,
  dy_TZ: Tensor2D,
): HeadNormRopeGradients {
  const { x, weight, inv, table, positions, heads } = saved;
  const inputs = kernelInputs(x, weight, { heads, table, positions });
  const outputs = kernel([...inputs, inv ?? zeros2D(0, 0), dy_TZ], { heads });
  const [dx, dweight] = outputs as [Tensor2D, Tensor1D];
  return weight === null ? { dx } : { dx, dweight };
}

/**
 * Per-head RMS norm, then rotary positions, differentiable on the tape.
 *
 * @param x_TZ - float32 `[T, Z]`
 * @param weight_C - float32 `[C]`; null: no norm
 * @returns float32 `[T, Z]`, owned by the caller
 */
export function headNormRope(
  x_TZ: Tensor2D,
  weight_C: Tensor1D | null,
  options: HeadNormRopeOptions,
): Tensor2D {
  return runOnTape(weight_C === null ? [x_TZ] : [x_TZ, weight_C], {
    forward: ([x, weight]) =>
      headNormRopeForward(x as Tensor2D, (weight as Tensor1D | undefined) ?? null, options),
    backward: (saved, dy) => {
      const { dx, dweight } = headNormRopeBackward(saved, dy as Tensor2D);
      return dweight === undefined ? [dx] : [dx, dweight];
    },
  }) as Tensor2D;
}
