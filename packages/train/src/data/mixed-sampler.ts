/**
 * @file Rows of two texts in a fixed proportion, still a pure function of their position: row `r` is of the second text
 * exactly when `⌊(r + 1) · share⌋` is more than `⌊r · share⌋`, so that any stretch of rows holds its share.
 */
import type { BatchSampler, TokenRows } from './batch-sampler.ts';

/**
 * Mixes two samplers.
 *
 * @param main - most rows, usually
 * @param replay - the others
 * @param share - of rows that come from `replay`, above 0 and below 1
 * @returns a sampler whose epoch ends when `main` has given each of its rows once
 */
export function mixSamplers(main: BatchSampler, replay: BatchSampler, share: number): BatchSampler {
  const rows = (first: number, count: number): TokenRows => {
    const parts = Array.from({ length: count }, (_, at) => {
      const before = Math.floor((first + at) * share);
      const isReplay = Math.floor((first + at + 1) * share) > before;
      return isReplay ? replay.rows(before, 1) : main.rows(first + at - before, 1);
    });
    const length = parts[0]?.length ?? 0;
    const ids = new Int32Array(count * length);
    const targets = new Int32Array(count * length);
    for (const [at, part] of parts.entries()) {
      ids.set(part.ids, at * length);
      targets.set(part.targets, at * length);
    }
    return { ids, targets, rows: count, length };
  };
  return Object.freeze({ rowsPerEpoch: Math.floor(main.rowsPerEpoch / (1 - share)), rows });
}
