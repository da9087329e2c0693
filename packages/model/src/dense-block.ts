/**
 * @file The feed-forward half of a dense decoder layer: `x + down(silu(gate(h)) · up(h))` of `h = norm(x)`.
 *
 * Letters: `T` tokens · `D` model width · `F` feed-forward width.
 */
import {
  add,
  disposeTree,
  gatedFeedForwardBackward,
  gatedFeedForwardForward,
  rmsNormBackward,
  rmsNormForward,
  runOp,
} from '@moebius/tensor';
import type {
  Forward,
  GatedFeedForwardSaved,
  GatedWeights,
  RmsNormSaved,
  Tensor1D,
  Tensor2D,
} from '@moebius/tensor';

/** Weights of one dense feed-forward, borrowed for one pass. */
export interface DenseWeights {
  /** float32 `[D]` */
  readonly norm: Tensor1D;
  /** Gate, up and down, each float32 `[F, D]`. */
  readonly matrices: GatedWeights;
}

/** What {@link takeDenseBackward} needs. */
export interface DenseBlockSaved {
  readonly norm: RmsNormSaved;
  readonly feedForward: GatedFeedForwardSaved;
}

/** Gradients of one dense feed-forward; the caller owns them. */
export interface DenseBlockGradients {
  /** float32 `[T, D]`, the residual path included. */
  readonly dx: Tensor2D;
  /** Of the weights, by name. */
  readonly weights: DenseWeights;
}

/**
 * Norm, gated feed-forward, residual.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param weights - `[…]`, borrowed
 * @param epsilon - of the norm
 * @returns float32 `[T, D]` and what backward needs; the caller owns both
 */
export function denseBlockForward(
  x_TD: Tensor2D,
  weights: DenseWeights,
  epsilon: number,
): Forward<Tensor2D, DenseBlockSaved> {
  return runOp('denseBlock', () => {
    const norm = rmsNormForward(x_TD, weights.norm, { epsilon });
    const out = gatedFeedForwardForward(norm.value, weights.matrices);
    return { value: add<Tensor2D>(x_TD, out.value), saved: { norm: norm.saved, feedForward: out.saved } };
  });
}

/**
 * Gradients of {@link denseBlockForward}. Frees `saved`.
 *
 * @param saved - taken
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients; the caller owns them
 */
export function takeDenseBackward(saved: DenseBlockSaved, dy_TD: Tensor2D): DenseBlockGradients {
  try {
    return runOp('denseBlock.backward', () => {
      const { dx, dweights } = gatedFeedForwardBackward(saved.feedForward, dy_TD);
      const norm = rmsNormBackward(saved.norm, dx);
      const weights = { norm: norm.dweight, matrices: dweights };
      return { dx: add<Tensor2D>(dy_TD, norm.dx), weights };
    });
  } finally {
    disposeTree(saved);
  }
}
