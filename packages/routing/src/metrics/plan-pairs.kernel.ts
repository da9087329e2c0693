/**
 * @file Reading a plan's pairs token by token.
 *
 * Letters: `T` tokens, `E` experts, `N` pairs.
 */
import type { DispatchPlan } from '../dispatch-plan.ts';

/**
 * The expert of each pair, grouped by token as `plan.tokenOffsets` says, best first.
 *
 * @param plan - a valid plan
 * @returns fresh Int32Array `[N]`
 */
export function pairExperts(plan: Pick<DispatchPlan, 'experts' | 'slot' | 'source'>): Int32Array {
  const { experts, slot, source } = plan;
  const ids = new Int32Array(slot.length);
  for (let i = 0; i < slot.length; i += 1) ids[i] = source[slot[i]!]! % experts;
  return ids;
}
