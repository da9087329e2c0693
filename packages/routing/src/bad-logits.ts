/**
 * @file The error of logits that cannot be routed, the same for every gate.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { MoebiusError } from '@moebius/core';

/** Where bad logits are. */
export interface BadLogitsPlace {
  /** Columns of the logits. */
  readonly experts: number;
  /** Layer index, or undefined outside a model. */
  readonly layer: number | undefined;
}

/**
 * The error of one token's logits.
 *
 * @param logits - `[T, E]` on the host
 * @param token - whose row holds a NaN, +∞, or nothing but -∞
 * @param place - columns and layer
 * @returns `numerics`, naming layer, token and expert
 */
export function badLogits(logits: ArrayLike<number>, token: number, place: BadLogitsPlace): MoebiusError {
  const { experts, layer = -1 } = place;
  const row = Array.from({ length: experts }, (_, e) => logits[token * experts + e] ?? NaN);
  const found = row.findIndex((value) => Number.isNaN(value) || value === Infinity);
  const expert = found < 0 ? 0 : found;
  const got = found < 0 ? '-Infinity for every expert' : `${row[expert]} for expert ${expert}`;
  const subject =
    layer < 0 ? `gate logits of token ${token}` : `layers[${layer}] gate logits of token ${token}`;
  return new MoebiusError({
    code: 'numerics',
    message: `${subject}: must be finite, got ${got} (check the hidden state and the learning rate)`,
    details: { layer, token, expert, got },
  });
}
