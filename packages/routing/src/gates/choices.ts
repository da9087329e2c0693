/**
 * @file Choices as stages of `composeRouter`.
 *
 * Letters: `T` tokens, `E` experts, `K` top-k.
 */
import { topKRows } from './choose.kernel.ts';
import type { Choose } from './stages.ts';

/** Settings of {@link chooseTopK}. */
export interface ChooseTopKOptions {
  /** `K`. */
  readonly topK: number;
}

/**
 * The `topK` best experts of every token by their logits: the order of the scores, without ties through rounding.
 *
 * @param options - how many
 */
export function chooseTopK(options: ChooseTopKOptions): Choose {
  return ({ logits, ...rows }) => topKRows(logits, options.topK, rows);
}
