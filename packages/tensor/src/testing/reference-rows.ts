/**
 * @file Slow, obvious loops in double precision for routed rows, grouped products, embedding, top-k and AdamW.
 */
import type { Activation } from '../ops/activation.ts';
import type { RowPlan } from '../ops/row-plan.ts';
import { zeroMatrix } from './matrix.ts';
import type { Matrix } from './matrix.ts';
import { referenceGatedFeedForward, referenceLinear } from './reference-dense.ts';
import type { ReferenceGatedWeights } from './reference-dense.ts';

/** `out[t] = Σ weights[n] y[n]` over the pairs `n` of token `t`, found by looking at every pair. */
export function referenceCombine(y: Matrix, weights: ArrayLike<number>, plan: RowPlan): Matrix {
  const out = zeroMatrix(plan.tokens, y[0]?.length ?? 0);
  for (const [n, row] of y.entries()) {
    const target = out[plan.token[n]!]!;
    for (const [d, value] of row.entries()) target[d]! += weights[n]! * value;
  }
  return out;
}

/** The expert of each pair. */
export function referenceExpertOfPair(plan: RowPlan): number[] {
  return Array.from(plan.source, (source) => source % plan.experts);
}

/** Every token's weighted experts, one pair at a time. */
export function referenceExpertFeedForward(
  x: Matrix,
  weights: ArrayLike<number>,
  experts: readonly ReferenceGatedWeights[],
  options: { plan: RowPlan; activation: Activation },
): Matrix {
  const { plan, activation } = options;
  const expertOfPair = referenceExpertOfPair(plan);
  const out = zeroMatrix(plan.tokens, x[0]?.length ?? 0);
  for (let n = 0; n < plan.token.length; n += 1) {
    const token = plan.token[n]!;
    const [y = []] = referenceGatedFeedForward([x[token]!], experts[expertOfPair[n]!]!, activation);
    for (const [d, value] of y.entries()) out[token]![d]! += weights[n]! * value;
  }
  return out;
}

/** Row by row with the weight of its group. */
export function referenceGroupedMatmul(
  x: Matrix,
  weights: readonly Matrix[],
  offsets: ArrayLike<number>,
): Matrix {
  return x.map((row, n) => {
    let group = 0;
    while (n >= offsets[group + 1]!) group += 1;
    return referenceLinear([row], weights[group]!)[0]!;
  });
}

/** The `k` largest of each row by repeated search; the first of equals wins. */
export function referenceTopK(scores: Matrix, k: number): { values: Matrix; ids: Matrix } {
  const ids = scores.map((row) => {
    const chosen: number[] = [];
    while (chosen.length < k) {
      let best = -1;
      for (const [e, score] of row.entries()) {
        if (!chosen.includes(e) && (best < 0 || score > row[best]!)) best = e;
      }
      chosen.push(best);
    }
    return chosen;
  });
  return { values: ids.map((row, t) => row.map((e) => scores[t]![e]!)), ids };
}

/** State of {@link referenceAdamW}. */
export interface ReferenceAdamWState {
  /** Parameter values. */
  value: number[];
  /** First moment. */
  first: number[];
  /** Second moment. */
  second: number[];
  /** Updates so far. */
  step: number;
}

/** One AdamW step, number by number, in the order of PyTorch's `torch.optim.AdamW`. */
export function referenceAdamW(
  state: ReferenceAdamWState,
  gradient: readonly number[],
  options: { lr: number; beta1: number; beta2: number; epsilon: number; weightDecay: number },
): ReferenceAdamWState {
  const { lr, beta1, beta2, epsilon, weightDecay } = options;
  const step = state.step + 1;
  const value: number[] = [];
  const first: number[] = [];
  const second: number[] = [];
  for (const [i, g] of gradient.entries()) {
    const decayed = state.value[i]! * (1 - lr * weightDecay);
    const m = beta1 * state.first[i]! + (1 - beta1) * g;
    const v = beta2 * state.second[i]! + (1 - beta2) * g * g;
    const denominator = Math.sqrt(v) / Math.sqrt(1 - beta2 ** step) + epsilon;
    value.push(decayed - (lr / (1 - beta1 ** step)) * (m / denominator));
    first.push(m);
    second.push(v);
  }
  return { value, first, second, step };
}
