/**
 * @file What a capacity policy is asked, and the checks that every question passes before a policy sees it.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { MoebiusError } from '@moebius/core';

import { firstBadToken } from './scores.kernel.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import type { TokenContext } from '../token-context.ts';

/** One layer's routing on the host. Arrays are borrowed and only read. */
export interface CapacityProblem extends TokenContext {
  /** Float32Array `[T, E]`: how much each token wants each expert, higher is more. Rows of masked tokens are not read. */
  readonly scores: ArrayLike<number>;
  /** The dropless plan. */
  readonly primary: DispatchPlan;
}

/**
 * Checks lengths. O(T) at most.
 *
 * @throws `shape` on lengths or an empty batch, `plugin` on a plan with neuron prefixes
 */
export function assertCapacityProblem(problem: CapacityProblem): void {
  const { scores, primary, mask, tokenClass, deviceOf, sequences } = problem;
  const { tokens, experts } = primary;
  if (tokens === 0) {
    throw shapeFault(problem, 'tokens', {
      expectation: 'must be at least 1',
      got: 0,
      remedy: 'skip the layer for an empty batch',
    });
  }
  assertLength(problem, 'scores', { got: scores.length, expected: tokens * experts });
  if (mask !== undefined) assertLength(problem, 'mask', { got: mask.length, expected: tokens });
  if (tokenClass !== undefined)
    assertLength(problem, 'tokenClass', { got: tokenClass.length, expected: tokens });
  if (deviceOf !== undefined) assertLength(problem, 'deviceOf', { got: deviceOf.length, expected: tokens });
  if (sequences !== undefined && !(sequences >= 1 && tokens % sequences === 0)) {
    throw shapeFault(problem, 'sequences', {
      expectation: `must divide tokens ${tokens}`,
      got: sequences,
      remedy: 'sequences have equal length',
    });
  }
  if (primary.prefix !== undefined) {
    throw new MoebiusError({
      code: 'plugin',
      message: `${place(problem)}capacity plan: must not have neuron prefixes, got ${primary.prefix.length} (cap first, partition afterwards)`,
      details: { layer: problem.layer ?? -1, pairs: primary.prefix.length },
    });
  }
}

/**
 * Checks that no unmasked token has a NaN, +∞, or nothing but -∞ as scores. One pass of additions over `[T, E]`.
 *
 * @param scores - `[T, E]`
 * @param experts - E
 * @param context - mask, and the layer for the message
 * @throws `numerics` naming layer and token
 */
export function assertCapacityScores(
  scores: ArrayLike<number>,
  experts: number,
  context: Pick<TokenContext, 'layer' | 'mask'>,
): void {
  const token = firstBadToken(scores, experts, context.mask);
  if (token < 0) return;
  const row = Array.from({ length: experts }, (_, e) => scores[token * experts + e] ?? NaN);
  const found = row.findIndex((value) => Number.isNaN(value) || value === Infinity);
  const got = found < 0 ? '-Infinity for every expert' : `${row[found]} for expert ${found}`;
  throw new MoebiusError({
    code: 'numerics',
    message: `${place(context)}capacity scores of token ${token}: must be finite, got ${got} (check the hidden state and the learning rate)`,
    details: { layer: context.layer ?? -1, token, expert: Math.max(0, found), got },
  });
}

/** `layers[3] `, or nothing when the layer is not known. */
export function place(problem: { readonly layer?: number }): string {
  return problem.layer === undefined ? '' : `layers[${problem.layer}] `;
}

function assertLength(
  problem: CapacityProblem,
  subject: string,
  length: { readonly got: number; readonly expected: number },
): void {
  if (length.got === length.expected) return;
  throw shapeFault(problem, `${subject} length`, {
    expectation: `must be ${length.expected}`,
    got: length.got,
    remedy: `tokens are ${problem.primary.tokens}, experts ${problem.primary.experts}`,
  });
}

function shapeFault(
  problem: CapacityProblem,
  subject: string,
  fault: { readonly expectation: string; readonly got: number; readonly remedy: string },
): MoebiusError {
  return new MoebiusError({
    code: 'shape',
    message: `${place(problem)}capacity ${subject}: ${fault.expectation}, got ${fault.got} (${fault.remedy})`,
    details: { layer: problem.layer ?? -1, subject, got: fault.got, tokens: problem.primary.tokens },
  });
}
