/**
 * @file Where one layer's keys and values lie. One store on the host for every engine, one in place on the native one.
 */
import type { Tensor2D, Tensor3D } from '@tensorflow/tfjs';

/** Sizes of a store. */
export interface KvStoreSizes {
  /** Sequences `B`. */
  readonly batch: number;
  /** Slots at most `P`. */
  readonly positions: number;
  /** Width of a slot `Y` = J·C. */
  readonly width: number;
}

/** Keys and values of one layer. */
export interface KvStore {
  /**
   * Writes `n` rows per sequence, sequence `b` from slot `starts[b]` on.
   *
   * @param keys_TY - float32 `[B·n, Y]`, borrowed
   * @param values_TY - float32 `[B·n, Y]`, borrowed
   */
  write(keys_TY: Tensor2D, values_TY: Tensor2D, starts: Int32Array): void;
  /** Makes room for `slots` slots and gives the tensors to write in place; undefined where views are copies. */
  reserve(slots: number): { keys: Tensor3D; values: Tensor3D } | undefined;
  /** Keys and values `[B, P', Y]`, `P' ≥ slots`, borrowed until the next change. */
  read(slots: number): { keys: Tensor3D; values: Tensor3D };
  /** A store of sequences `sequences[0], sequences[1], …` of this one; independent of it from now on. */
  select(sequences: Int32Array): KvStore;
  /** Frees everything. */
  dispose(): void;
}

/** First number of slots; doubled when full. */
const firstSlots = 64;

/**
 * The number of slots to hold `needed`: doubles, at most `positions`.
 */
export function grownSlots(needed: number, current: number, positions: number): number {
  let slots = Math.max(current, Math.min(firstSlots, positions));
  while (slots < needed) slots *= 2;
  return Math.min(slots, positions);
}
