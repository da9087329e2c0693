/**
 * @file Softmax cross-entropy over integer targets, with z-loss (ST-MoE, Zoph et al. 2022, §3 eq. 5, applied to the
 * vocabulary as PaLM does): `loss = mean(lse − logit[target])`, `zLoss = mean(lse²)`, over the counted targets,
 * with `lse = log Σ exp(logits)`. Targets equal to `ignoreIndex` are not counted and get no gradient.
 *
 * The gradient differentiates `loss + zLossCoefficient · zLoss`:
 * `dlogits[t] = (softmax[t] · (1 + 2 c lse[t]) − onehot(target[t])) / count`.
 *
 * Legend: `T` rows · `V` vocabulary.
 */
import { add, exp, gather, mul, square, sub, sum, tensor1d, logSumExp } from '@tensorflow/tfjs';
import type { Scalar, Tensor1D, Tensor2D } from '@tensorflow/tfjs';

import { nativeKernel } from '../native/kernels.ts';
import { cloneTensor, runOp } from '../ownership.ts';
import { assertCount, assertShape } from './assert-shape.ts';
import { countTargets } from './cross-entropy.kernel.ts';
import type { TargetCount } from './cross-entropy.kernel.ts';
import { indexLength, toHostIndex, toIndexTensor } from './index-tensor.ts';
import type { IndexTensor } from './index-tensor.ts';
import { oneHotRows } from './one-hot.ts';
import { runOnTape } from './pair.ts';
import type { Forward } from './pair.ts';
import { as1D, as2D } from './reshape.ts';

/** Options of {@link softmaxCrossEntropyForward}. */
export interface SoftmaxCrossEntropyOptions {
  /** Targets with this value are not counted; default −1. */
  readonly ignoreIndex?: number;
  /** Coefficient `c` of the z-loss in the gradient; default 0. */
  readonly zLossCoefficient?: number;
}

/** Value of {@link softmaxCrossEntropyForward}. */
export interface SoftmaxCrossEntropyValue {
  /** float32 `[]`: mean cross-entropy over the counted targets, without the z-loss. 0 when none is counted. */
  readonly loss: Scalar;
  /** float32 `[]`: mean of `lse²` over the counted targets, without its coefficient. */
  readonly zLoss: Scalar;
  /** How many targets were counted. */
  readonly count: number;
  /** float32 `[T]`: cross-entropy of each row, 0 where ignored. */
  readonly lossPerRow: Tensor1D;
}

/** What {@link softmaxCrossEntropyBackward} needs. */
export interface SoftmaxCrossEntropySaved {
  /** float32 `[T, V]`: gradient of `loss + c · zLoss`. */
  readonly dlogits: Tensor2D;
}

/** Gradient of {@link softmaxCrossEntropyForward}. */
export interface SoftmaxCrossEntropyGradients {
  /** float32 `[T, V]`. */
  readonly dlogits: Tensor2D;
}

/**
 * Mean softmax cross-entropy over the counted targets.
 *
 * @param logits_TV - float32 `[T, V]`, borrowed
 * @param targets_T - int32 `[T]` in `[0, V)` or `ignoreIndex`, borrowed; a tensor is read to the host
 * @returns losses, count and what backward needs; the caller owns both
 * @throws `shape`; `data` on a target outside the vocabulary
 */
export function softmaxCrossEntropyForward(
  logits_TV: Tensor2D,
  targets_T: IndexTensor,
  options: SoftmaxCrossEntropyOptions = {},
): Forward<SoftmaxCrossEntropyValue, SoftmaxCrossEntropySaved> {
  const { ignoreIndex = -1, zLossCoefficient = 0 } = options;
  assertShape(logits_TV, 'T V', {}, 'softmaxCrossEntropy logits');
  const [rows, vocabulary] = logits_TV.shape;
  assertCount(indexLength(targets_T), rows, 'softmaxCrossEntropy targets length');
  const counted = countTargets(toHostIndex(targets_T), ignoreIndex, vocabulary);
  const { count } = counted;
  const perCount = 1 / Math.max(count, 1);
  return runOp('softmaxCrossEntropy', () => {
    const kernel = nativeKernel('MoebiusSoftmaxCrossEntropy');
    const [lossPerRow, z_T, dlogits] = kernel
      ? (kernel([logits_TV, toIndexTensor(targets_T)], {
          ignore_index: ignoreIndex,
          z_loss: zLossCoefficient,
          gradient_scale: perCount,
        }) as [Tensor1D, Tensor1D, Tensor2D])
      : portableForward(logits_TV, counted, zLossCoefficient, perCount);
    const loss = mul<Scalar>(sum(lossPerRow), perCount);
    const zLoss = mul<Scalar>(sum(z_T), perCount);
    return { value: { loss, zLoss, count, lossPerRow }, saved: { dlogits } };
  });
}

function portableForward(
  logits_TV: Tensor2D,
  counted: TargetCount,
  zLossCoefficient: number,
  perCount: number,
): [Tensor1D, Tensor1D, Tensor2D] {
  const [rows, vocabulary] = logits_TV.shape;
  const mask_T = tensor1d(counted.mask);
  const lse_T = logSumExp(logits_TV, 1) as Tensor1D;
  const chosen_T = gather(as1D(logits_TV), tensor1d(counted.places, 'int32'));
  const softmax_TV = exp(sub(logits_TV, as2D(lse_T, rows, 1)));
  const share_T = mul(mask_T, perCount);
  const factor_T1 = as2D(mul(share_T, add(mul(lse_T, 2 * zLossCoefficient), 1)), rows, 1);
  const target_TV = mul(oneHotRows(tensor1d(counted.classes, 'int32'), vocabulary), as2D(share_T, rows, 1));
  return [
    mul(sub(lse_T, chosen_T), mask_T),
    mul(square(lse_T), mask_T),
    sub(mul(softmax_TV, factor_T1), target_TV),
  ];
}

/**
 * Gradient of `loss + zLossCoefficient · zLoss` of {@link softmaxCrossEntropyForward}.
 *
 * @param saved - borrowed
 * @param dloss - what multiplies the gradient: a number, or a float32 `[]`, borrowed; default 1
 * @returns fresh gradients, owned by the caller
 */
export function softmaxCrossEntropyBackward(
  saved: SoftmaxCrossEntropySaved,
  dloss: Scalar | number = 1,
): SoftmaxCrossEntropyGradients {
  const dlogits = runOp('softmaxCrossEntropy.backward', () =>
    dloss === 1 ? cloneTensor(saved.dlogits) : mul<Tensor2D>(saved.dlogits, dloss),
  );
  return { dlogits };
}

/**
 * Mean softmax cross-entropy plus `zLossCoefficient · zLoss`, differentiable on the tape.
 *
 * @param logits_TV - float32 `[T, V]`
 * @param targets_T - int32 `[T]`
 * @returns float32 `[]`, owned by the caller
 */
export function softmaxCrossEntropy(
  logits_TV: Tensor2D,
  targets_T: IndexTensor,
  options: SoftmaxCrossEntropyOptions = {},
): Scalar {
  const { zLossCoefficient = 0 } = options;
  return runOnTape([logits_TV], {
    forward: ([logits]) => {
      const { value, saved } = softmaxCrossEntropyForward(logits as Tensor2D, targets_T, options);
      return { value: add(value.loss, mul(value.zLoss, zLossCoefficient)), saved };
    },
    backward: (saved, dy) => [
      softmaxCrossEntropyBackward(saved as SoftmaxCrossEntropySaved, dy as Scalar).dlogits,
    ],
  }) as Scalar;
}
