/**
 * @file Counting neighbouring tokens: what token baselines are made of. Counts can grow while a run goes on, so that
 * a baseline has seen exactly the tokens that the model has seen.
 */

/** Counts of tokens and of pairs of neighbours. */
export interface BigramCounts {
  /** V. */
  readonly vocabularySize: number;
  /** Count of each pair, by `previous * V + next`. */
  readonly pairs: ReadonlyMap<number, number>;
  /** `[V]`: how often each token was a target. */
  readonly targets: Float64Array;
  /** Targets counted so far. */
  readonly total: number;
  /** Adds the pairs `(ids[i], targets[i])`; a target below zero is left out. */
  add(ids: ArrayLike<number>, targets: ArrayLike<number>): void;
}

/** Empty counts. */
export function createBigramCounts(vocabularySize: number): BigramCounts {
  const pairs = new Map<number, number>();
  const targets = new Float64Array(vocabularySize);
  let total = 0;
  return {
    vocabularySize,
    pairs,
    targets,
    get total() {
      return total;
    },
    add(ids, next) {
      for (let index = 0; index < next.length; index++) {
        const target = next[index] ?? -1;
        if (target < 0) continue;
        const key = (ids[index] ?? 0) * vocabularySize + target;
        pairs.set(key, (pairs.get(key) ?? 0) + 1);
        targets[target] = (targets[target] ?? 0) + 1;
        total += 1;
      }
    },
  };
}
