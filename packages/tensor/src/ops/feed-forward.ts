/**
 * @file Plain feed-forward network: `y = act(x Uᵀ + b₁) Dn + b₂`, both matrices stored `[F, D]`.
 *
 * Legend: `T` rows · `D` width · `F` hidden width.
 */
import { add, matMul, mul, sum } from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { cloneTensor, cloneTree, runOp } from '../ownership.ts';
import { activate, activationSlope } from './activation.ts';
import type { Activation } from './activation.ts';
import { assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import type { FeedForwardOptions } from './gated-feed-forward.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';

/** Weights of one plain network; either bias may be absent. */
export interface PlainWeights {
  /** float32 `[F, D]`. */
  readonly up: Tensor2D;
  /** float32 `[F, D]`. */
  readonly down: Tensor2D;
  /** float32 `[F]`. */
  readonly upBias?: Tensor1D;
  /** float32 `[D]`. */
  readonly downBias?: Tensor1D;
}

/** What {@link feedForwardBackward} needs. */
export interface FeedForwardSaved {
  /** float32 `[T, D]`. */
  readonly x: Tensor2D;
  /** float32 `[T, F]`: `x Uᵀ + b₁`, before the activation. */
  readonly u: Tensor2D;
  /** Clones of the weights. */
  readonly weights: PlainWeights;
  /** The activation. */
  readonly activation: Activation;
}

/** Gradients of {@link feedForwardForward}. */
export interface FeedForwardGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** Of the same shapes as the weights, with the biases that were given. */
  readonly dweights: PlainWeights;
}

/**
 * `y = act(x Uᵀ + b₁) Dn + b₂`.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param weights - matrices float32 `[F, D]`, borrowed
 * @returns `y` float32 `[T, D]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function feedForwardForward(
  x_TD: Tensor2D,
  weights: PlainWeights,
  options: FeedForwardOptions = {},
): Forward<Tensor2D, FeedForwardSaved> {
  const { activation = 'silu' } = options;
  const { up, down, upBias, downBias } = weights;
  const dims: Dims = {};
  assertShape(x_TD, 'T D', dims, 'feedForward x');
  assertShape(up, 'F D', dims, 'feedForward up');
  assertShape(down, 'F D', dims, 'feedForward down');
  if (upBias !== undefined) assertShape(upBias, 'F', dims, 'feedForward upBias');
  if (downBias !== undefined) assertShape(downBias, 'D', dims, 'feedForward downBias');
  return runOp('feedForward', () => {
    const product_TF = matMul(x_TD, up, false, true) as Tensor2D;
    const u = upBias === undefined ? product_TF : add<Tensor2D>(product_TF, upBias);
    const out_TD = matMul(activate(u, activation), down) as Tensor2D;
    const value = downBias === undefined ? out_TD : add<Tensor2D>(out_TD, downBias);
    return { value, saved: { x: cloneTensor(x_TD), u, weights: cloneTree(weights), activation } };
  });
}

/**
 * Gradients of {@link feedForwardForward}.
 *
 * @param saved - borrowed
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function feedForwardBackward(saved: FeedForwardSaved, dy_TD: Tensor2D): FeedForwardGradients {
  const { x, u, weights, activation } = saved;
  assertShape(dy_TD, 'T D', { T: x.shape[0], D: x.shape[1] }, 'feedForward dy');
  return runOp('feedForward.backward', () => {
    const down = matMul(activate(u, activation), dy_TD, true, false) as Tensor2D;
    const du_TF = mul<Tensor2D>(matMul(dy_TD, weights.down, false, true), activationSlope(u, activation));
    const up = matMul(du_TF, x, true, false) as Tensor2D;
    const dx = matMul(du_TF, weights.up) as Tensor2D;
    const upBias = weights.upBias === undefined ? {} : { upBias: sum<Tensor1D>(du_TF, 0) };
    const downBias = weights.downBias === undefined ? {} : { downBias: sum<Tensor1D>(dy_TD, 0) };
    return { dx, dweights: { up, down, ...upBias, ...downBias } };
  });
}

/**
 * Plain feed-forward network, differentiable on the tape.
 *
 * @param x_TD - float32 `[T, D]`
 * @param weights - matrices float32 `[F, D]`
 * @returns float32 `[T, D]`, owned by the caller
 */
export function feedForward(
  x_TD: Tensor2D,
  weights: PlainWeights,
  options: FeedForwardOptions = {},
): Tensor2D {
  const names = (['up', 'down', 'upBias', 'downBias'] as const).filter((name) => weights[name] !== undefined);
  const tensors = names.map((name) => weights[name] as Tensor);
  return runOnTape([x_TD, ...tensors], {
    forward: ([x, ...given]) => {
      const named = Object.fromEntries(names.map((name, index) => [name, given[index]]));
      return feedForwardForward(x as Tensor2D, named as unknown as PlainWeights, options);
    },
    backward: (saved, dy) => {
      const { dx, dweights } = feedForwardBackward(saved, dy as Tensor2D);
      return [dx, ...names.map((name) => dweights[name] as Tensor)];
    },
  }) as Tensor2D;
}
