/**
 * @file From the experts that a policy keeps to the plan it returns.
 *
 * Letters: `T` tokens, `N` pairs, `R` cells.
 */
import { MoebiusError } from '@moebius/core';

import type { CapacityProblem } from './capacity-problem.ts';
import { compareWithPrimary } from './kept-pairs.kernel.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { planPairs } from '../plan-top-k.ts';

/** What a policy decided. */
export interface KeptPairs {
  /** Int32Array `[N]`: expert of each entry, grouped by token. Only read. */
  readonly ids: Int32Array;
  /** Int32Array `[T+1]`: token t owns entries `tokenOffsets[t] … tokenOffsets[t+1]`. Kept in the plan: do not write it again. */
  readonly tokenOffsets: Int32Array;
  /** Int32Array `[R]`: the cap of each cell, for the statistics; default none. Copied. */
  readonly limit?: Int32Array;
}

/**
 * Builds the plan of a capacity policy: the pairs, which of them are primary, and `stats.capacity`. O(T + E + N).
 *
 * @param kept - experts of each token
 * @param problem - what the policy was asked
 * @returns a fresh plan; caller owns
 * @throws `shape` when the grouping does not cover `ids` or the tokens, `data` when an id is out of range or repeated for a token
 */
export function planKept(kept: KeptPairs, problem: CapacityProblem): DispatchPlan {
  const { primary, mask } = problem;
  if (kept.tokenOffsets.length !== primary.tokens + 1) {
    throw new MoebiusError({
      code: 'shape',
      message: `tokenOffsets: must have ${primary.tokens + 1} entries (tokens ${primary.tokens} + 1), got ${kept.tokenOffsets.length} (list every token, routed or not)`,
      details: { tokens: primary.tokens, got: kept.tokenOffsets.length },
    });
  }
  const plan = planPairs(kept.ids, { experts: primary.experts, tokenOffsets: kept.tokenOffsets });
  const limit = kept.limit ?? new Int32Array(0);
  const change = compareWithPrimary(plan, primary, { mask, limit });
  const stats = { ...plan.stats, capacity: change.capacity };
  return change.primary === null ? { ...plan, stats } : { ...plan, primary: change.primary, stats };
}
