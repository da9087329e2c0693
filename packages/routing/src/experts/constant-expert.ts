/**
 * @file Experts that answer with a learned vector: the constant expert of MoE++ (Jin et al. 2024, arXiv 2410.07348, §3.1).
 *
 * Letters: `R` rows, `D` model width.
 */
import {
  add,
  cloneTree,
  expandDims,
  matMul,
  mul,
  reshape,
  runOp,
  sigmoid,
  sub,
  sum,
  tile,
  zerosLike,
} from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { defineExpert } from '../define-expert.ts';
import type { ExpertBackward, ExpertForward, ExpertKind, ExpertParameters } from '../define-expert.ts';

/** Settings of {@link constantExpert}. */
export interface ConstantExpertOptions {
  /** Whether a learned share of the row itself stays in the answer: one more part `mix` `[D]`. Default false. */
  readonly mixed?: boolean;
}

/**
 * `y = v`, or with `mixed` `y = (1 − a)·x + a·v`, `a = σ(m·x)`: an answer that costs no matrix product. Parts `vector` `[D]`
 * and, with `mixed`, `mix` `[D]`. MoE++ mixes with a softmax over two logits of `x`; their difference is the one logit here.
 *
 * @param options - whether the row is mixed in
 * @returns a kind named `constant` or `constant-mixed`
 */
export function constantExpert(options: ConstantExpertOptions = {}): ExpertKind {
  const mixed = options.mixed ?? false;
  return defineExpert({
    name: mixed ? 'constant-mixed' : 'constant',
    parts: mixed ? { vector: ['D'], mix: ['D'] } : { vector: ['D'] },
    neuronAxis: null,
    forward: mixed ? mixedForward : plainForward,
    backward: mixed ? mixedBackward : plainBackward,
    flops: (rows, { modelWidth }) => (mixed ? 5 * rows * modelWidth : 0),
    trusted: true,
  });
}

function plainForward(x_RD: Tensor2D, { vector }: ExpertParameters): ExpertForward {
  return runOp('constantExpert', () => ({ value: everyRow(vector as Tensor1D, x_RD.shape[0]), saved: null }));
}

function plainBackward(_saved: unknown, dy_RD: Tensor2D): ExpertBackward {
  return runOp('constantExpert.backward', () => ({
    dx: zerosLike(dy_RD),
    parameters: { vector: sum<Tensor1D>(dy_RD, 0) },
  }));
}

interface MixedSaved {
  readonly x: Tensor2D;
  readonly vector: Tensor1D;
  readonly mix: Tensor1D;
  /** float32 `[R, 1]` */
  readonly share: Tensor2D;
}

function mixedForward(x_RD: Tensor2D, parameters: ExpertParameters): ExpertForward {
  const { vector, mix } = parameters as { vector: Tensor1D; mix: Tensor1D };
  return runOp('constantExpert', () => {
    const share = sigmoid(matMul(x_RD, expandDims(mix, 1))) as Tensor2D;
    const value = add<Tensor2D>(x_RD, mul(share, sub(vector, x_RD)));
    return { value, saved: { ...cloneTree({ x: x_RD, vector, mix }), share } };
  });
}

function mixedBackward(saved: unknown, dy_RD: Tensor2D): ExpertBackward {
  const { x, vector, mix, share } = saved as MixedSaved;
  return runOp('constantExpert.backward', () => {
    const dshare = sum<Tensor2D>(mul(dy_RD, sub(vector, x)), 1, true);
    const dlogit_R1 = mul<Tensor2D>(dshare, mul(share, sub(1, share)));
    const dx = add<Tensor2D>(mul(dy_RD, sub(1, share)), mul(dlogit_R1, mix));
    return {
      dx,
      parameters: {
        vector: sum<Tensor1D>(mul(dy_RD, share), 0),
        mix: reshape(matMul(x, dlogit_R1, true, false), mix.shape),
      },
    };
  });
}

function everyRow(vector_D: Tensor1D, rows: number): Tensor2D {
  return tile(expandDims(vector_D, 0) as Tensor2D, [rows, 1]);
}
