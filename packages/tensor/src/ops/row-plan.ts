/**
 * @file The part of a dispatch plan that arithmetic needs: which rows go to which expert, as two CSR lists.
 *
 * Pair `n` (grouped by expert, ascending token inside an expert) belongs to expert `e` with
 * `offsets[e] ≤ n < offsets[e+1]` and to token `token[n]`. Token `t`'s pairs are
 * `slot[tokenOffsets[t] … tokenOffsets[t+1])`. Because both directions are listed, every gradient is a gather.
 */
import { MoebiusError } from '@moebius/core';

import { assertCount } from './assert-shape.ts';

/** Routed pairs, grouped by expert and by token. Integers on the host; never written after they were used. */
export interface RowPlan {
  /** Number of tokens `T`. */
  readonly tokens: number;
  /** Number of experts `E`. */
  readonly experts: number;
  /** int32 `[E+1]`: the pairs of expert `e` are `offsets[e] … offsets[e+1])`. */
  readonly offsets: Int32Array;
  /** int32 `[N]`: the token of each pair. */
  readonly token: Int32Array;
  /** int32 `[N]`: `t·E + e` of each pair. */
  readonly source: Int32Array;
  /** int32 `[T+1]`: the pairs of token `t` are `slot[tokenOffsets[t] … tokenOffsets[t+1])`. */
  readonly tokenOffsets: Int32Array;
  /** int32 `[N]`: pair indices grouped by token. */
  readonly slot: Int32Array;
}

/** Number of pairs `N` of a plan. */
export function countPairs(plan: RowPlan): number {
  return plan.token.length;
}

/**
 * Checks that a plan's lengths fit together. Cheap: the lists are not walked.
 *
 * @throws `shape` with both numbers
 */
export function assertRowPlan(plan: RowPlan): void {
  const pairs = plan.token.length;
  assertCount(plan.offsets.length, plan.experts + 1, 'plan.offsets length');
  assertCount(plan.tokenOffsets.length, plan.tokens + 1, 'plan.tokenOffsets length');
  assertCount(plan.source.length, pairs, 'plan.source length');
  assertCount(plan.slot.length, pairs, 'plan.slot length');
  assertCount(plan.offsets[plan.experts] ?? 0, pairs, 'plan.offsets last entry');
  assertCount(plan.tokenOffsets[plan.tokens] ?? 0, pairs, 'plan.tokenOffsets last entry');
}

/**
 * Builds a plan from the expert of every pair, token by token: the plan of plain top-k routing, and what tests use.
 *
 * @param expertsOfToken - for each token its experts, each at most once
 * @param experts - number of experts `E`
 * @throws `data` on an expert outside `[0, E)`
 */
export function planRows(expertsOfToken: readonly (readonly number[])[], experts: number): RowPlan {
  const tokens = expertsOfToken.length;
  const byExpert: number[][] = Array.from({ length: experts }, () => []);
  for (const [t, chosen] of expertsOfToken.entries()) {
    for (const e of chosen) {
      const list = byExpert[e];
      if (list === undefined) throw badExpert(t, e, experts);
      list.push(t);
    }
  }
  const token = Int32Array.from(byExpert.flat());
  const source = Int32Array.from(byExpert.flatMap((list, e) => list.map((t) => t * experts + e)));
  const slotsOfToken: number[][] = Array.from({ length: tokens }, () => []);
  for (const [n, t] of token.entries()) slotsOfToken[t]?.push(n);
  return {
    tokens,
    experts,
    offsets: cumulate(byExpert.map((list) => list.length)),
    token,
    source,
    tokenOffsets: cumulate(slotsOfToken.map((list) => list.length)),
    slot: Int32Array.from(slotsOfToken.flat()),
  };
}

function cumulate(counts: readonly number[]): Int32Array {
  const offsets = new Int32Array(counts.length + 1);
  let total = 0;
  for (const [index, count] of counts.entries()) {
    total += count;
    offsets[index + 1] = total;
  }
  return offsets;
}

function badExpert(token: number, expert: number, experts: number): MoebiusError {
  return new MoebiusError({
    code: 'data',
    message: `token ${token}: experts must be in [0, ${experts}), got ${expert}`,
    details: { token, expert, experts },
  });
}
