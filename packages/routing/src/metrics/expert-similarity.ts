/**
 * @file How alike experts are, and how a token's experts in one layer foretell those in the next.
 *
 * Letters: `E`, `F` experts of two layers, `T` tokens.
 */
import { MoebiusError } from '@moebius/core';

import type { DispatchPlan } from '../dispatch-plan.ts';
import { countTransitions } from './routing-totals.kernel.ts';

/**
 * Cosine of the parameters of each two experts. Experts that were copied begin at 1 and part in training.
 *
 * @param experts - `[E]`, parameters of each flat, of one length; only read
 * @returns fresh Float64Array `[E, E]`, symmetric, in [-1, 1]; 0 beside an expert of zeros
 * @throws `shape` when lengths differ
 */
export function expertSimilarity(experts: readonly ArrayLike<number>[]): Float64Array {
  const count = experts.length;
  const length = experts[0]?.length ?? 0;
  const other = experts.findIndex((values) => values.length !== length);
  if (other >= 0) {
    throw new MoebiusError({
      code: 'shape',
      message: `experts[${other}]: must have ${length} parameters, as experts[0], got ${experts[other]?.length} (compare experts of one kind and shape)`,
      details: { expert: other, expected: length, got: experts[other]?.length ?? 0 },
    });
  }
  const lengths = experts.map((values) => Math.sqrt(dot(values, values)));
  const similarity = new Float64Array(count * count);
  for (const [e, left] of experts.entries()) {
    for (const [f, right] of experts.entries()) {
      if (f < e) continue;
      const product = (lengths[e] ?? 0) * (lengths[f] ?? 0);
      const cosine = product === 0 ? 0 : Math.min(1, Math.max(-1, dot(left, right) / product));
      similarity[e * count + f] = cosine;
      similarity[f * count + e] = cosine;
    }
  }
  return similarity;
}

function dot(left: ArrayLike<number>, right: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < left.length; i += 1) total += (left[i] ?? 0) * (right[i] ?? 0);
  return total;
}

/** How tokens go from one layer to another. */
export interface Stickiness {
  /** Float64Array `[E, F]`: tokens by their best expert in each; adds up over batches. */
  readonly transitions: Float64Array;
  /** Share of tokens whose best expert in the second layer is the commonest one of their expert in the first: 1 is foretold, about 1/F is not. */
  readonly predictability: number;
}

/**
 * How well a token's best expert in one layer foretells its best expert in another: what prefetching lives on.
 *
 * @param from - plan of a layer
 * @param to - plan of a later layer, over the same tokens
 * @returns fresh counts; caller owns
 * @throws `shape` when the plans are of different tokens
 */
export function measureStickiness(from: DispatchPlan, to: DispatchPlan): Stickiness {
  if (from.tokens !== to.tokens) {
    throw new MoebiusError({
      code: 'shape',
      message: `stickiness: plans must be of the same tokens, got ${from.tokens} and ${to.tokens} (take two layers of one pass)`,
      details: { from: from.tokens, to: to.tokens },
    });
  }
  const transitions = countTransitions(from, to);
  let [total, foretold] = [0, 0];
  for (let e = 0; e < from.experts; e += 1) {
    const row = transitions.subarray(e * to.experts, (e + 1) * to.experts);
    total += row.reduce((sum, count) => sum + count, 0);
    foretold += Math.max(...row);
  }
  return { transitions, predictability: total === 0 ? 0 : foretold / total };
}
