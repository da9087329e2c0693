/**
 * @file Builders of dispatch plans: exact top-k routing and arbitrary token-grouped pairs.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k, `N` routed pairs.
 */
import { MoebiusError } from '@moebius/core';

import { packIds, sortPairs, topKOffsets } from './dispatch-plan.kernel.ts';
import type { IdFault } from './dispatch-plan.kernel.ts';
import { planStats } from './dispatch-plan.ts';
import type { DispatchPlan } from './dispatch-plan.ts';

/** Sizes of exact top-k routing. */
export interface PlanTopKOptions {
  /** Number of tokens `T`. */
  readonly tokens: number;
  /** Number of experts `E`. */
  readonly experts: number;
  /** Experts of each token `K`. */
  readonly topK: number;
  /** Uint8Array `[T]`: 0 leaves a token out (padding). Absent: every token is routed. */
  readonly mask?: Uint8Array;
}

/** Pairs grouped by token, any number for each. */
export interface PlanPairsOptions {
  /** Number of experts `E`. */
  readonly experts: number;
  /** Int32Array `[T+1]`: token `t` owns entries `tokenOffsets[t] … tokenOffsets[t+1]` of `ids`. Kept: do not write it again. */
  readonly tokenOffsets: Int32Array;
}

/**
 * Plan of exact top-k routing. O(T·K + E), no sorting network, no maps.
 *
 * @param ids - Int32Array `[T, K]`, expert ids of each token, best first; rows of masked tokens are ignored. Only read.
 * @param options - sizes and mask
 * @returns a fresh plan; caller owns
 * @throws `shape` when lengths disagree, `configuration` when topK exceeds experts, `data` when an id is out of range or a
 * token names an expert twice
 * @example
 * ```ts
 * const plan = planTopK(Int32Array.of(1, 0, 1, 2), { tokens: 2, experts: 3, topK: 2 });
 * plan.offsets; // 0 1 3 4: expert 1 has two tokens
 * ```
 */
export function planTopK(ids: Int32Array, options: PlanTopKOptions): DispatchPlan {
  const { tokens, experts, topK, mask } = options;
  if (topK > experts || topK < 1) {
    throw new MoebiusError({
      code: 'configuration',
      message: `topK: must be in 1…experts ${experts}, got ${topK} (lower topK or add experts)`,
      details: { topK, experts },
    });
  }
  assertLength('ids', ids.length, tokens * topK, `tokens ${tokens} × topK ${topK}`);
  if (mask !== undefined) assertLength('mask', mask.length, tokens, `tokens ${tokens}`);
  assertIndexable(tokens, experts);
  const tokenOffsets = topKOffsets(tokens, topK, mask);
  return fromSorted(sortPairs(tokenOffsets, packIds(ids, topK, tokenOffsets), experts), tokens, experts);
}

/**
 * Plan of any token-grouped pairs: what a router with drops, expansion or a variable number of experts builds.
 *
 * @param ids - Int32Array `[N]`, expert of each entry, grouped by token. Only read.
 * @param options - experts and the grouping
 * @returns a fresh plan (it keeps `tokenOffsets`); caller owns
 * @throws `shape` when the grouping does not cover `ids`, `data` when an id is out of range or repeated for a token
 */
export function planPairs(ids: Int32Array, options: PlanPairsOptions): DispatchPlan {
  const { experts, tokenOffsets } = options;
  const tokens = tokenOffsets.length - 1;
  assertLength('ids', ids.length, tokenOffsets[tokens] ?? 0, 'last entry of tokenOffsets');
  assertIndexable(tokens, experts);
  let previous = 0;
  for (const offset of tokenOffsets) {
    if (offset < previous) {
      throw new MoebiusError({
        code: 'shape',
        message: `tokenOffsets: must ascend from 0, got ${offset} after ${previous} (list the running count of pairs)`,
        details: { offset, previous },
      });
    }
    previous = offset;
  }
  assertLength('tokenOffsets[0]', tokenOffsets[0] ?? 0, 0, 'running count before the first token');
  return fromSorted(sortPairs(tokenOffsets, ids, experts), tokens, experts);
}

function fromSorted(sorted: ReturnType<typeof sortPairs>, tokens: number, experts: number): DispatchPlan {
  if ('kind' in sorted) throw idError(sorted, experts);
  const stats = planStats({ experts, offsets: sorted.offsets, tokenOffsets: sorted.tokenOffsets });
  return { tokens, experts, ...sorted, stats };
}

function idError(found: IdFault, experts: number): MoebiusError {
  const expectation =
    found.kind === 'range'
      ? `must be in 0…${experts - 1}`
      : `must name each expert once for token ${found.token}`;
  return new MoebiusError({
    code: 'data',
    message: `ids[${found.entry}]: ${expectation}, got ${found.id} (check the router's selection)`,
    details: { entry: found.entry, token: found.token, id: found.id, experts },
  });
}

function assertLength(subject: string, got: number, expected: number, reason: string): void {
  if (got === expected) return;
  throw new MoebiusError({
    code: 'shape',
    message: `${subject}: must be ${expected} (${reason}), got ${got} (pass matching arrays)`,
    details: { subject, expected, got },
  });
}

function assertIndexable(tokens: number, experts: number): void {
  if (tokens * experts <= 0x7fff_ffff) return;
  throw new MoebiusError({
    code: 'limit',
    message: `tokens × experts: must be at most 2147483647, got ${tokens * experts} (split the batch: source indices are int32)`,
    details: { tokens, experts },
  });
}
