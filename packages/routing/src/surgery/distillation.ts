/**
 * @file The loss with which a dense model learns from a sparse one (Switch Transformer, Fedus et al. 2022, §4.2): a part of
 * the cross-entropy against the teacher's probabilities, the rest against the text.
 *
 * ```
 *   loss = s · τ² · mean_t CE( softmax(teacher_t / τ), softmax(logits_t / τ) ) + (1 − s) · mean_t CE( target_t, softmax(logits_t) )
 * ```
 * with s = ¼ and τ = 1 as there; τ² keeps the size of the gradient when the temperature changes (Hinton et al. 2015).
 *
 * Letters: `T` rows, `V` vocabulary.
 */
import { MoebiusError } from '@moebius/core';
import {
  add,
  cloneTensor,
  exp,
  expandDims,
  logSumExp,
  mul,
  runOp,
  softmax,
  softmaxCrossEntropyForward,
  sub,
  sum,
  tensor2d,
  toHostIndex,
} from '@moebius/tensor';
import type { Forward, IndexTensor, Scalar, Tensor2D } from '@moebius/tensor';

import { configuration } from './host-expert.ts';

/** What the student learns from. */
export interface DistillationOptions {
  /** float32 `[T, V]`, borrowed: the teacher's logits. */
  readonly teacher: Tensor2D;
  /** int32 `[T]`, borrowed: the text; rows with −1 are not counted, in either part. */
  readonly targets: IndexTensor;
  /** Share `s` of the teacher's part. Default 0.25. */
  readonly softShare?: number;
  /** `τ` of both sides of the teacher's part. Default 1. */
  readonly temperature?: number;
}

/** Value of {@link distillationForward}, each float32 `[]`. */
export interface DistillationValue {
  /** What is minimised. */
  readonly loss: Scalar;
  /** Cross-entropy against the teacher, times τ². */
  readonly soft: Scalar;
  /** Cross-entropy against the text. */
  readonly hard: Scalar;
}

/** What {@link distillationBackward} needs. */
export interface DistillationSaved {
  /** float32 `[T, V]`: gradient of the loss. */
  readonly dlogits: Tensor2D;
}

/**
 * The distillation loss of a batch.
 *
 * @param logits_TV - float32 `[T, V]` of the student, borrowed
 * @param options - the teacher's logits, the text, and how they are mixed
 * @returns the loss and its parts, and what backward needs; the caller owns both
 * @throws `shape` when the teacher's logits have another shape; `configuration` on a share outside [0, 1] or a temperature
 * that is not above 0; `data` on a target outside the vocabulary
 * @example
 * ```ts
 * import { createEngine, disposeTree, tensor2d } from '@moebius/tensor';
 *
 * await createEngine();
 * const [logits, teacher] = [tensor2d([[1, 0, 0]]), tensor2d([[2, 1, 0]])];
 * const { value, saved } = distillationForward(logits, { teacher, targets: Int32Array.of(0) });
 * const dlogits = distillationBackward(saved);
 * disposeTree([logits, teacher, value, saved, dlogits]);
 * ```
 */
export function distillationForward(
  logits_TV: Tensor2D,
  options: DistillationOptions,
): Forward<DistillationValue, DistillationSaved> {
  const { teacher, targets, softShare = 0.25, temperature = 1 } = options;
  if (!(softShare >= 0 && softShare <= 1))
    throw configuration('softShare', 'must be from 0 to 1', String(softShare));
  if (!(temperature > 0) || !Number.isFinite(temperature)) {
    throw configuration('temperature', 'must be above 0 and finite', String(temperature));
  }
  if (teacher.shape.join() !== logits_TV.shape.join()) {
    throw new MoebiusError({
      code: 'shape',
      message: `teacher: must have the shape [${logits_TV.shape.join(', ')}] of the logits, got [${teacher.shape.join(', ')}] (use models of one vocabulary on one batch)`,
      details: { expected: logits_TV.shape, got: teacher.shape },
    });
  }
  const counted = toHostIndex(targets).map((target) => (target === -1 ? 0 : 1));
  const count = Math.max(
    1,
    counted.reduce((total, one) => total + one, 0),
  );
  return runOp('distillation', () => {
    const text = softmaxCrossEntropyForward(logits_TV, targets);
    const mask_T1 = tensor2d(Float32Array.from(counted), [counted.length, 1]);
    const share_T1 = mul(mask_T1, 1 / count);
    const student = mul<Tensor2D>(logits_TV, 1 / temperature);
    const teacher_TV = softmax(mul<Tensor2D>(teacher, 1 / temperature));
    const log_TV = sub(student, expandDims(logSumExp(student, 1), 1));
    const soft = mul<Scalar>(sum(mul(mul(teacher_TV, log_TV), share_T1)), -(temperature ** 2));
    const hard = text.value.loss;
    const softGradient = mul(sub(exp(log_TV), teacher_TV), share_T1);
    return {
      value: {
        loss: add<Scalar>(mul(soft, softShare), mul(hard, 1 - softShare)),
        soft,
        hard,
      },
      saved: {
        dlogits: add<Tensor2D>(
          mul(softGradient, softShare * temperature),
          mul(text.saved.dlogits, 1 - softShare),
        ),
      },
    };
  });
}

/**
 * Gradient of the loss of {@link distillationForward}.
 *
 * @param saved - borrowed
 * @param dloss - what multiplies it. Default 1
 * @returns float32 `[T, V]`; the caller owns it
 */
export function distillationBackward(saved: DistillationSaved, dloss = 1): Tensor2D {
  return runOp('distillation.backward', () =>
    dloss === 1 ? cloneTensor(saved.dlogits) : mul<Tensor2D>(saved.dlogits, dloss),
  );
}
