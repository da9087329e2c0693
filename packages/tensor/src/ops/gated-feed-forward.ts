/**
 * @file Gated feed-forward network (GLU variants, Shazeer 2020): `y = (act(x Gᵀ) ⊙ x Uᵀ) Dn`.
 *
 * Every matrix is stored `[F, D]`: neurons are contiguous rows, so a prefix or a permutation of neurons is a slice.
 *
 * Legend: `T` rows · `D` width · `F` hidden width.
 */
import { add, matMul, mul, ones, range, tensor1d } from '@tensorflow/tfjs';
import type { Tensor, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { cloneTensor, cloneTree, runOp } from '../ownership.ts';
import { activate, activationSlope } from './activation.ts';
import type { Activation } from './activation.ts';
import { assertShape } from './assert-shape.ts';
import type { Dims } from './assert-shape.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';

/** Weights of one gated network. */
export interface GatedWeights {
  /** float32 `[F, D]`. */
  readonly gate: Tensor2D;
  /** float32 `[F, D]`. */
  readonly up: Tensor2D;
  /** float32 `[F, D]`. */
  readonly down: Tensor2D;
}

/** Options of feed-forward networks. */
export interface FeedForwardOptions {
  /** Default `silu`. */
  readonly activation?: Activation;
}

/** What {@link gatedFeedForwardBackward} needs. */
export interface GatedFeedForwardSaved {
  /** float32 `[T, D]`. */
  readonly x: Tensor2D;
  /** float32 `[T, F]`: `x Gᵀ`, before the activation. */
  readonly g: Tensor2D;
  /** float32 `[T, F]`: `x Uᵀ`. */
  readonly u: Tensor2D;
  /** Clones of the weights. */
  readonly weights: GatedWeights;
  /** The activation. */
  readonly activation: Activation;
}

/** Gradients of {@link gatedFeedForwardForward}. */
export interface GatedFeedForwardGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** Each float32 `[F, D]`. */
  readonly dweights: GatedWeights;
}

/**
 * `y = (act(x Gᵀ) ⊙ x Uᵀ) Dn`.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param weights - each float32 `[F, D]`, borrowed
 * @returns `y` float32 `[T, D]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function gatedFeedForwardForward(
  x_TD: Tensor2D,
  weights: GatedWeights,
  options: FeedForwardOptions = {},
): Forward<Tensor2D, GatedFeedForwardSaved> {
  const { activation = 'silu' } = options;
  const dims: Dims = {};
  assertShape(x_TD, 'T D', dims, 'gatedFeedForward x');
  assertGatedWeights(weights, dims, 'gatedFeedForward');
  return runOp('gatedFeedForward', () => {
    const { gate, up, down } = weights;
    const kernel = x_TD.shape[0] > 0 ? nativeKernel('MoebiusExpertFeedForward') : undefined;
    const [value, g, u] = kernel
      ? (kernel([...everyRow(x_TD), gate, up, down], { activation }) as [Tensor2D, Tensor2D, Tensor2D])
      : portableForward(x_TD, weights, activation);
    const saved = { x: cloneTensor(x_TD), g, u, weights: cloneTree({ gate, up, down }), activation };
    return { value, saved };
  });
}

function portableForward(
  x_TD: Tensor2D,
  weights: GatedWeights,
  activation: Activation,
): [Tensor2D, Tensor2D, Tensor2D] {
  const g_TF = matMul(x_TD, weights.gate, false, true) as Tensor2D;
  const u_TF = matMul(x_TD, weights.up, false, true) as Tensor2D;
  return [matMul(mul(activate(g_TF, activation), u_TF), weights.down) as Tensor2D, g_TF, u_TF];
}

/** The kernel's row inputs when one expert gets every row with weight 1. */
function everyRow(x_TD: Tensor2D): Tensor[] {
  const rows = x_TD.shape[0];
  const offsets = tensor1d(Int32Array.of(0, rows), 'int32');
  const each = range(0, rows, 1, 'int32');
  const eachOffset = range(0, rows + 1, 1, 'int32');
  return [x_TD, ones([rows]), offsets, each, eachOffset, each];
}

/**
 * Gradients of {@link gatedFeedForwardForward}.
 *
 * @param saved - borrowed
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients, owned by the caller
 */
export function gatedFeedForwardBackward(
  saved: GatedFeedForwardSaved,
  dy_TD: Tensor2D,
): GatedFeedForwardGradients {
  const { x } = saved;
  assertShape(dy_TD, 'T D', { T: x.shape[0], D: x.shape[1] }, 'gatedFeedForward dy');
  return runOp('gatedFeedForward.backward', () => {
    const kernel = x.shape[0] > 0 ? nativeKernel('MoebiusExpertFeedForwardGrad') : undefined;
    if (!kernel) return gatedGradients(saved, dy_TD);
    const { g, u, weights, activation } = saved;
    const inputs = [...everyRow(x), weights.gate, weights.up, weights.down, g, u, dy_TD];
    const [dx, , gate, up, down] = kernel(inputs, { activation }) as Tensor2D[];
    return { dx, dweights: { gate, up, down } } as GatedFeedForwardGradients;
  });
}

/**
 * The arithmetic of {@link gatedFeedForwardBackward}, without a scope of its own.
 *
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns gradients; free them in the enclosing scope
 */
export function gatedGradients(saved: GatedFeedForwardSaved, dy_TD: Tensor2D): GatedFeedForwardGradients {
  const { x, g, u, weights, activation } = saved;
  const acted_TF = activate(g, activation);
  const dh_TF = matMul(dy_TD, weights.down, false, true) as Tensor2D;
  const down = matMul(mul(acted_TF, u), dy_TD, true, false) as Tensor2D;
  const dg_TF = mul<Tensor2D>(mul(dh_TF, u), activationSlope(g, activation));
  const du_TF = mul<Tensor2D>(dh_TF, acted_TF);
  const gate = matMul(dg_TF, x, true, false) as Tensor2D;
  const up = matMul(du_TF, x, true, false) as Tensor2D;
  const dx = add<Tensor2D>(matMul(dg_TF, weights.gate), matMul(du_TF, weights.up));
  return { dx, dweights: { gate, up, down } };
}

/**
 * Checks that the three matrices are `[F, D]`, binding `F`.
 *
 * @throws `shape`
 */
export function assertGatedWeights(weights: GatedWeights, dims: Dims, subject: string): void {
  if (fits(weights.gate, dims) && fits(weights.up, dims) && fits(weights.down, dims)) return;
  assertShape(weights.gate, 'F D', dims, `${subject} gate`);
  assertShape(weights.up, 'F D', dims, `${subject} up`);
  assertShape(weights.down, 'F D', dims, `${subject} down`);
}

/** Whether F and D are known and match. Decoding asks for every expert of every token: the usual case parses no text. */
function fits({ shape }: Tensor2D, dims: Dims): boolean {
  return shape.length === 2 && shape[0] === dims['F'] && shape[1] === dims['D'];
}

/**
 * Gated feed-forward network, differentiable on the tape.
 *
 * @param x_TD - float32 `[T, D]`
 * @param weights - each float32 `[F, D]`
 * @returns float32 `[T, D]`, owned by the caller
 */
export function gatedFeedForward(
  x_TD: Tensor2D,
  weights: GatedWeights,
  options: FeedForwardOptions = {},
): Tensor2D {
  return runOnTape([x_TD, weights.gate, weights.up, weights.down], {
    forward: (inputs) => {
      const [x, gate, up, down] = inputs as [Tensor2D, Tensor2D, Tensor2D, Tensor2D];
      return gatedFeedForwardForward(x, { gate, up, down }, options);
    },
    backward: (saved, dy) => {
      const { dx, dweights } = gatedFeedForwardBackward(saved, dy as Tensor2D);
      return [dx, dweights.gate, dweights.up, dweights.down];
    },
  }) as Tensor2D;
}
