/**
 * @file Cells: whose tokens share a cap, and how large it is.
 *
 * Letters: `T` tokens, `E` experts, `R` cells.
 */
import type { CapacityRounding } from './capacity-config.ts';
import type { CapacityScratch } from './scratch.kernel.ts';

/** Tokens by cell. */
export interface Cells {
  /** Number of cells `R`. */
  readonly count: number;
  /** Int32Array `[T]`: cell of each token, -1 for a masked one. Scratch. */
  readonly of: Int32Array;
  /** Int32Array `[R]`: unmasked tokens. Scratch. */
  readonly tokens: Int32Array;
  /** Int32Array `[R]`: pairs of the dropless plan. Scratch. */
  readonly pairs: Int32Array;
}

/** What cells are counted from. */
export interface CellInput {
  /** Number of cells `R`. */
  readonly count: number;
  /** Cell of a token. */
  readonly cellOf: (token: number) => number;
  /** `[T+1]` of the dropless plan. */
  readonly tokenOffsets: Int32Array;
  /** `[T]`, 0 leaves a token out. */
  readonly mask: Uint8Array | undefined;
}

/** Assigns tokens to cells and counts them. */
export function countCells(input: CellInput, scratch: CapacityScratch): Cells {
  const { count, cellOf, tokenOffsets, mask } = input;
  const T = tokenOffsets.length - 1;
  const of = scratch.int32('cell', T);
  const tokens = scratch.int32('cellTokens', count).fill(0);
  const pairs = scratch.int32('cellPairs', count).fill(0);
  for (let t = 0; t < T; t += 1) {
    if (mask !== undefined && mask[t] === 0) {
      of[t] = -1;
      continue;
    }
    const cell = cellOf(t);
    of[t] = cell;
    tokens[cell]! += 1;
    pairs[cell]! += tokenOffsets[t + 1]! - tokenOffsets[t]!;
  }
  return { count, of, tokens, pairs };
}

/** Sizes of one cap. */
export interface CapacityOfCell {
  /** Capacity factor, at least 0, or Infinity. */
  readonly gamma: number;
  /** Pairs of the cell in the dropless plan. */
  readonly pairs: number;
  /** Number of experts `E`. */
  readonly experts: number;
  /** Unmasked tokens of the cell: no expert sees a token twice, so no cap is larger. */
  readonly tokens: number;
  /** How to round. */
  readonly rounding: CapacityRounding;
  /** No cap is lower. */
  readonly minCapacity: number;
}

/** Relative distance at which γ·pairs/E counts as an integer: rounding noise of the product, not of γ. */
const INTEGER_TOLERANCE = 1e-9;

/**
 * The cap of one cell: `round(γ·pairs/E)`, at least `minCapacity`, at most the tokens of the cell.
 *
 * A product within one part in 10⁹ of an integer is that integer: 1.1·10 is 11.000000000000002 in float64, and its ceiling
 * would be 12.
 *
 * @param sizes - of the cap
 * @returns an integer in 0…tokens
 */
export function capacityOf(sizes: CapacityOfCell): number {
  const { gamma, pairs, experts, tokens, rounding, minCapacity } = sizes;
  if (gamma === Infinity) return tokens;
  const exact = (gamma * pairs) / experts;
  const nearest = Math.round(exact);
  const isInteger = Math.abs(exact - nearest) <= INTEGER_TOLERANCE * Math.max(1, nearest);
  const rounded = isInteger
    ? nearest
    : rounding === 'ceil'
      ? Math.ceil(exact)
      : rounding === 'floor'
        ? Math.floor(exact)
        : nearest;
  return Math.min(Math.max(rounded, minCapacity), tokens);
}
