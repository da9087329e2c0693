/**
 * @file Score functions: logits to scores, and back from the scores alone.
 *
 * | name | s | ds/dz by s |
 * |---|---|---|
 * | softmax | exp(z) / Σ exp(z) | s ⊙ (d - Σ d ⊙ s) |
 * | sigmoid | 1 / (1 + exp(-z)) | s (1 - s) |
 * | sqrt-softplus | √ln(1 + exp(z)) | (1 - exp(-s²)) / 2s |
 * | relu | max(z, 0) | 1 where s > 0 |
 * | identity | z | 1 |
 *
 * Letters: `T` tokens, `E` experts.
 */
import {
  add,
  cloneTensor,
  div,
  exp,
  greater,
  maximum,
  mul,
  neg,
  relu,
  scalar,
  sigmoid,
  softmax,
  softplus,
  sqrt,
  square,
  sub,
  sum,
  tanh,
  where,
} from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';

import type { GateScore } from './gate-config.ts';

/**
 * Scores of logits.
 *
 * @param logits - float32 `[T, E]`, borrowed
 * @param score - which function
 * @returns float32 `[T, E]`; caller owns
 */
export function scoreForward(logits: Tensor2D, score: GateScore): Tensor2D {
  if (score === 'softmax') return softmax(logits);
  if (score === 'sigmoid') return sigmoid(logits);
  if (score === 'sqrt-softplus') return sqrt<Tensor2D>(softplus(logits));
  return score === 'relu' ? relu<Tensor2D>(logits) : cloneTensor(logits);
}

/**
 * Gradient of {@link scoreForward}. May give `dscores` itself back (identity): call it in a scope.
 *
 * @param scores - float32 `[T, E]` of the forward, borrowed
 * @param dscores - float32 `[T, E]`, borrowed
 * @param score - which function
 * @returns float32 `[T, E]`
 */
export function scoreBackward(scores: Tensor2D, dscores: Tensor2D, score: GateScore): Tensor2D {
  if (score === 'softmax') return softmaxBackward(scores, dscores);
  if (score === 'sigmoid') return mul<Tensor2D>(dscores, mul(scores, sub(scalar(1), scores)));
  if (score === 'sqrt-softplus') return mul<Tensor2D>(dscores, rootSoftplusSlope(scores));
  return score === 'relu' ? where<Tensor2D>(greater(scores, 0), dscores, 0) : dscores;
}

/** σ(z) / 2s with σ(z) = 1 - exp(-s²) = tanh(s²/2) (1 + exp(-s²)), which keeps its digits where s is small. */
function rootSoftplusSlope(scores: Tensor2D): Tensor2D {
  const squared = square(scores);
  const sigmoidOfLogit = mul(tanh(div(squared, 2)), add(exp(neg(squared)), 1));
  return div<Tensor2D>(sigmoidOfLogit, maximum(mul(scores, 2), 1e-30));
}

/**
 * `p ⊙ (dp - Σ dp ⊙ p)`: the gradient of a softmax over rows.
 *
 * @param p - float32 `[T, E]`, borrowed
 * @param dp - float32 `[T, E]`, borrowed
 */
export function softmaxBackward(p: Tensor2D, dp: Tensor2D): Tensor2D {
  const along_T1 = sum<Tensor2D>(mul(dp, p), 1, true);
  return mul<Tensor2D>(p, sub(dp, along_T1));
}

/** The sum `[T, E]` of those that are there; one of them is given back as it is. Null when there is none. */
export function addPresent(...terms: readonly (Tensor2D | null | undefined)[]): Tensor2D | null {
  let total: Tensor | null = null;
  for (const term of terms) if (term != null) total = total === null ? term : add(total, term);
  return total as Tensor2D | null;
}
