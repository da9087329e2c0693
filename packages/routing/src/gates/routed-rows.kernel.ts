/**
 * @file The rows of a batch without its padding, and back.
 *
 * Letters: `T` tokens, `E` experts, `U` tokens that are not masked.
 */

/** A batch of rows. */
export interface BatchRows {
  /** `[T, E]`, only read. */
  readonly logits: ArrayLike<number>;
  /** `T`. */
  readonly tokens: number;
  /** `E`. */
  readonly experts: number;
  /** Uint8Array `[T]`, 0 is padding. */
  readonly mask?: Uint8Array;
}

/** Int32Array `[U]` of the tokens, and Float64Array `[U, E]` of their rows. Fresh. */
export function routedRows({ logits, tokens, experts, mask }: BatchRows): {
  readonly routed: Int32Array;
  readonly rows: Float64Array;
} {
  const routed = Int32Array.from({ length: tokens }, (_, t) => t).filter((t) => mask?.[t] !== 0);
  const rows = new Float64Array(routed.length * experts);
  for (let i = 0; i < rows.length; i += 1)
    rows[i] = logits[routed[Math.floor(i / experts)]! * experts + (i % experts)]!;
  return { routed, rows };
}

/** Float64Array `[T, E]`: rows at their tokens, zeros elsewhere. Fresh. */
export function atTheirTokens(rows: Float64Array, routed: Int32Array, tokens: number): Float64Array {
  const experts = routed.length === 0 ? 0 : rows.length / routed.length;
  const all = new Float64Array(tokens * experts);
  for (const [i, t] of routed.entries()) all.set(rows.subarray(i * experts, (i + 1) * experts), t * experts);
  return all;
}

/** Int32Array `[T + 1]`: one entry for each token that is not masked. Fresh. */
export function oneEach(tokens: number, mask: Uint8Array | undefined): Int32Array {
  const offsets = new Int32Array(tokens + 1);
  for (let t = 0; t < tokens; t += 1) offsets[t + 1] = offsets[t]! + (mask?.[t] === 0 ? 0 : 1);
  return offsets;
}
