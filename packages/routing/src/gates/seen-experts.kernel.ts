/**
 * @file The best experts of each token among those that its task sees.
 *
 * Letters: `T` tokens, `E` experts, `A` tasks, `K` top-k.
 */
import type { Choice, ChooseInput } from './stages.ts';
import { chooseEach } from './token-hash.kernel.ts';

/** Tasks and what they see. */
export interface SeenExperts {
  /** `[A]`, experts of each task. */
  readonly seen: readonly (readonly number[])[];
  /** Int32Array `[T]`. */
  readonly task: Int32Array;
  /** `K`. */
  readonly topK: number;
}

/** The K best by their logits, or all that a task sees where these are fewer; ties to the lowest. Fresh. */
export function bestSeen(
  { logits, tokens, experts, mask }: ChooseInput,
  { seen, task, topK }: SeenExperts,
): Choice {
  const expertsOf = (t: number): number[] =>
    seen[task[t]!]!.toSorted((a, b) => logits[t * experts + b]! - logits[t * experts + a]! || a - b).slice(
      0,
      topK,
    );
  return chooseEach({ tokens, expertsOf, ...(mask === undefined ? {} : { mask }) });
}
