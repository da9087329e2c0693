/**
 * @file Groups of tokens on the host: whole sequences and segments of them, with the weights that average their rows.
 *
 * Letters: `T` tokens, `B` sequences, `L = T/B`, `G` groups.
 */
import { MoebiusError } from '@moebius/core';
import { assertCount, assertDivides, assertShape, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { RouterOptions } from '../define-router.ts';

/**
 * Checks the rows of a gate.
 *
 * @param x - `[T, D]`, borrowed
 * @throws `shape` naming the router
 */
export function assertRows(router: string, x: Tensor2D, { mask }: RouterOptions): void {
  assertShape(x, 'T D', {}, `router "${router}" x`);
  const [tokens] = x.shape;
  if (tokens === 0) {
    throw new MoebiusError({
      code: 'shape',
      message: `router "${router}" x: must have at least 1 token, got 0 (skip the layer for an empty batch)`,
      details: { router, tokens },
    });
  }
  assertCount(mask?.length ?? tokens, tokens, `router "${router}" mask length`);
}

/** Tokens in groups. */
export interface TokenGroups {
  /** Int32Array `[T]`, group of each token; -1 for a masked one. */
  readonly group: Int32Array;
  /** `G`. */
  readonly groups: number;
}

/** Sequence of each token, -1 for masked ones. One sequence where the caller does not say how many there are. */
export function sequenceGroups(tokens: number, options: RouterOptions): TokenGroups {
  return segmentGroups(tokens, options, Infinity);
}

/**
 * Segments of `length` tokens, sequence after sequence; the last one of a sequence may be shorter.
 *
 * @throws `shape` when sequences do not divide tokens
 */
export function segmentGroups(tokens: number, options: RouterOptions, length: number): TokenGroups {
  const { sequences = 1, mask } = options;
  const each = assertDivides(tokens, sequences, 'tokens of the batch by sequences');
  const segments = Math.max(1, Math.ceil(each / length));
  const group = Int32Array.from({ length: tokens }, (_, t) => {
    if (mask?.[t] === 0) return -1;
    return Math.floor(t / each) * segments + (length === Infinity ? 0 : Math.floor((t % each) / length));
  });
  return { group, groups: sequences * segments };
}

/**
 * The matrix that averages rows: row `g` of `[G, T]` has `1 / n` at each of the n tokens of group `g`, and zeros for an empty group.
 *
 * @returns float32 `[G, T]`; caller owns
 */
export function poolMatrix({ group, groups }: TokenGroups): Tensor2D {
  const counts = new Float64Array(groups);
  for (const g of group) if (g >= 0) counts[g] = (counts[g] ?? 0) + 1;
  const values = new Float32Array(groups * group.length);
  for (const [t, g] of group.entries()) if (g >= 0) values[g * group.length + t] = 1 / (counts[g] ?? 1);
  return tensor2d(values, [groups, group.length]);
}

/**
 * The matrix that hands rows of groups to their tokens: 1 at `[t, group[t]]`, zeros for a masked token.
 *
 * @returns float32 `[T, G]`; caller owns
 */
export function spreadMatrix({ group, groups }: TokenGroups): Tensor2D {
  const values = new Float32Array(group.length * groups);
  for (const [t, g] of group.entries()) if (g >= 0) values[t * groups + g] = 1;
  return tensor2d(values, [group.length, groups]);
}
