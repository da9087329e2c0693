/**
 * @file Reshapes that keep the rank in the type.
 */
import { reshape, zeros } from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D } from '@tensorflow/tfjs';

/** `x` `[…]` as `[N]`; owned by the caller. */
export function as1D(x: Tensor): Tensor1D {
  return reshape(x, [x.size]) as Tensor1D;
}

/** `x` `[…]` as `[rows, columns]`; owned by the caller. */
export function as2D(x: Tensor, rows: number, columns: number): Tensor2D {
  return reshape(x, [rows, columns]) as Tensor2D;
}

/** `x` `[…]` as `[a, b, c]`; owned by the caller. */
export function as3D(x: Tensor, a: number, b: number, c: number): Tensor3D {
  return reshape(x, [a, b, c]) as Tensor3D;
}

/** `x` `[…]` as `[a, b, c, d]`; owned by the caller. */
export function as4D(x: Tensor, shape: readonly [number, number, number, number]): Tensor4D {
  return reshape(x, [...shape]) as Tensor4D;
}

/** Zeros `[rows, columns]`; owned by the caller. */
export function zeros2D(rows: number, columns: number): Tensor2D {
  return zeros([rows, columns]);
}
