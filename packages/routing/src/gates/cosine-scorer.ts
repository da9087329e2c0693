/**
 * @file The cosine scorer: angles between projected rows and expert vectors.
 *
 * ```
 * z = τ · cos(x Pᵀ, W)        τ = exp(min(log_scale, ln maxScale))
 * ```
 * X-MoE (2204.09179); the clamp is Tutel's.
 *
 * Letters: `T` tokens, `D` model width, `P` projection, `E` experts.
 */
import { add, exp, linear, matMul, minimum, mul, rsqrt, square, sum } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { RouterParameters } from '../define-router.ts';
import { scorerOf } from './scorers.ts';
import type { Scorer } from './stages.ts';

/** Settings of {@link cosineScorer}. */
export interface CosineScorerOptions {
  /** `E`. */
  readonly columns: number;
  /** `P`; 0 compares the rows as they are. */
  readonly dimension: number;
  /** What cosines are divided by at first. */
  readonly temperature: number;
  /** Largest factor that training can reach. */
  readonly maxScale: number;
}

/**
 * Cosines between rows and expert vectors, times a learned factor. Parameters `weight` `[E, P]`, `project` `[P, D]`, `log_scale` `[1]`.
 * Scaling a row changes nothing.
 *
 * @param options - sizes and temperature
 */
export function cosineScorer(options: CosineScorerOptions): Scorer {
  const { columns, dimension, temperature, maxScale } = options;
  return scorerOf({
    name: 'cosineScorer',
    parameterShapes: (modelWidth) => ({
      weight: [columns, dimension === 0 ? modelWidth : dimension],
      ...(dimension === 0 ? {} : { project: [dimension, modelWidth] }),
      log_scale: [1],
    }),
    initialise: (name) => (name === 'log_scale' ? Float32Array.of(-Math.log(temperature)) : undefined),
    logits: (x, parameters) => cosineLogits(x, parameters, maxScale),
  });
}

/**
 * The function of {@link cosineScorer}, for scorers that add to it.
 *
 * @param x - float32 `[T, D]`
 * @param parameters - `weight` `[E, P]`, perhaps `project` `[P, D]`, `log_scale` `[1]`
 * @param maxScale - largest factor
 * @returns float32 `[T, E]`, differentiable
 */
export function cosineLogits(x: Tensor2D, parameters: RouterParameters, maxScale: number): Tensor2D {
  const { weight, project, log_scale: logScale } = parameters;
  const rows = project === undefined ? x : linear(x, project as Tensor2D);
  const cosines = matMul(unitRows(rows), unitRows(weight as Tensor2D), false, true);
  return mul<Tensor2D>(cosines, exp(minimum(logScale ?? 0, Math.log(maxScale))));
}

/** Rows of length 1; a row of zeros stays zeros. */
function unitRows(rows: Tensor2D): Tensor2D {
  return mul<Tensor2D>(rows, rsqrt(add(sum(square(rows), 1, true), 1e-12)));
}
