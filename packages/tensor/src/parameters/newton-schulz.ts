/**
 * @file Orthogonalization by a quintic Newton-Schulz iteration: of `X = U S Vᵀ` about `U Vᵀ`.
 *
 * `X ← X / ‖X‖`, then `A = X Xᵀ`; `X ← a X + (b A + c A²) X`. Jordan's coefficients make the slope at 0 steep, so that five
 * steps bring every singular value that is not tiny into about [0.7, 1.2]: not to 1, which is what makes them few.
 * (K. Jordan et al.: "Muon: An optimizer for hidden layers in neural networks", 2024.)
 */
import { add, div, matMul, maximum, mul, sqrt, square, sum, transpose } from '@tensorflow/tfjs';
import type { Tensor3D } from '@tensorflow/tfjs';

const [a, b, c] = [3.4445, -4.775, 2.0315];
const smallestNorm = 1e-7;

/**
 * Orthogonalizes each matrix of a stack.
 *
 * @param stack - float32 `[G, O, I]`: G matrices, borrowed
 * @param steps - iterations; 5 is usual
 * @returns float32 `[G, O, I]`; call it in a scope, which frees what is made in between
 */
export function orthogonalize(stack: Tensor3D, steps: number): Tensor3D {
  const [, rows, columns] = stack.shape;
  const isTall = rows > columns;
  let x: Tensor3D = isTall ? transpose(stack, [0, 2, 1]) : stack;
  x = div(x, maximum(sqrt(sum(square(x), [1, 2], true)), smallestNorm));
  for (let step = 0; step < steps; step += 1) {
    const gram = matMul(x, x, false, true);
    const polynomial = add(mul(gram, b), mul(matMul(gram, gram), c));
    x = add(mul(x, a), matMul(polynomial, x));
  }
  return isTall ? transpose(x, [0, 2, 1]) : x;
}

/** Floating-point operations of {@link orthogonalize} on one `[rows, columns]` matrix, products only. */
export function orthogonalizeFlops(rows: number, columns: number, steps: number): number {
  const [small, large] = [Math.min(rows, columns), Math.max(rows, columns)];
  return steps * (4 * small * small * large + 2 * small ** 3);
}
