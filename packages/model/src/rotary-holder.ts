/**
 * @file The model's rotary table, made as long as needed, and the positions of a batch's tokens.
 *
 * The table grows by doubling up to `max_position_embeddings`; a file that asks for a million positions costs nothing
 * until they are used.
 *
 * Letters: `B` batch · `n` new rows per sequence · `T` = B·n tokens · `P` positions · `C` head width.
 */
import { MoebiusError } from '@moebius/core';
import { disposeTree, replaceTree, type RotaryTable, rotaryTable } from '@moebius/tensor';

import type { ModelConfig } from './config.ts';

/** Holds the rotary table of a model. */
export interface RotaryHolder {
  /** A table float32 `[P, C/2]` of at least `positions` rows; borrowed until the next call. */
  tableFor(positions: number): RotaryTable;
  /** Frees the table. */
  dispose(): void;
}

const firstPositions = 256;

/**
 * Makes an empty holder.
 *
 * @param config - the model
 */
export function createRotaryHolder(config: ModelConfig): RotaryHolder {
  const { head_dim: headSize, rope_theta: theta, max_position_embeddings: most } = config;
  let table: RotaryTable | null = null;
  return {
    tableFor(positions) {
      const present = table?.cos.shape[0] ?? 0;
      if (table !== null && present >= positions) return table;
      const wanted = Math.min(most, Math.max(positions, firstPositions, 2 * present));
      table = replaceTree(table, rotaryTable({ headSize, positions: wanted, theta }));
      return table;
    },
    dispose() {
      disposeTree(table);
      table = null;
    },
  };
}

/** Where the rows of a batch stand in their sequences. */
export interface BatchPositions {
  /** Int32Array `[T]`, fresh. */
  readonly positions: Int32Array;
  /** Largest position plus one. */
  readonly end: number;
}

/**
 * Positions of `tokens` rows of `lengths.length` sequences that already hold `lengths` tokens.
 *
 * @param tokens - T
 * @param lengths - tokens each sequence holds already
 * @param config - its `max_position_embeddings` bounds positions
 * @throws `shape` when tokens do not split evenly; `limit` when a sequence grows too long
 */
export function planPositions(
  tokens: number,
  lengths: ArrayLike<number>,
  config: ModelConfig,
): BatchPositions {
  const batch = lengths.length;
  const rows = tokens / batch;
  if (!Number.isInteger(rows) || rows < 1) {
    throw new MoebiusError({
      code: 'shape',
      message: `ids: must hold the same number of tokens for each of ${batch} sequences, got ${tokens}`,
      details: { tokens, batch },
    });
  }
  const end = Math.max(...Array.from(lengths)) + rows;
  if (end > config.max_position_embeddings) {
    throw new MoebiusError({
      code: 'limit',
      message: `sequence: must have at most max_position_embeddings ${config.max_position_embeddings} tokens, got ${end} (shorten it)`,
      details: { limit: config.max_position_embeddings, got: end },
    });
  }
  const positions = Int32Array.from(
    { length: tokens },
    (_, at) => (lengths[Math.floor(at / rows)] ?? 0) + (at % rows),
  );
  return { positions, end };
}
