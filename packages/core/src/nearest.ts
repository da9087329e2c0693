/** @file Finds the name somebody meant. */

/** Names longer than this are cut before they are compared: the work is quadratic in the length. */
const COMPARED_LENGTH = 64;

/**
 * The known name closest to `name` by edit distance, when one is close enough to be a likely misspelling: at most a
 * third of the longer name's length, and at least one edit is always allowed.
 *
 * @param name - what was written
 * @param known - what could have been meant; the first of equally close ones wins
 * @returns `undefined` when none is close
 * @example
 * ```ts
 * nearest('topk', ['top-k', 'expert-choice']); // 'top-k'
 * ```
 */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of known) {
    const distance = editDistance(fold(name), fold(candidate));
    const allowed = Math.max(1, Math.floor(Math.max(name.length, candidate.length) / 3));
    if (distance <= allowed && distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function fold(name: string): string {
  return name.slice(0, COMPARED_LENGTH).toLowerCase();
}

/**
 * Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment).
 */
export function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (const [rowIndex, left] of [...a].entries()) {
    const current = [rowIndex + 1];
    for (const [columnIndex, right] of [...b].entries()) {
      const at = columnIndex + 1;
      let cost = Math.min(
        (previous[at] ?? 0) + 1,
        (current[columnIndex] ?? 0) + 1,
        (previous[columnIndex] ?? 0) + (left === right ? 0 : 1),
      );
      const isSwap =
        rowIndex > 0 && columnIndex > 0 && left === b[columnIndex - 1] && right === a[rowIndex - 1];
      if (isSwap) cost = Math.min(cost, (beforePrevious[columnIndex - 1] ?? 0) + 1);
      current.push(cost);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous.at(-1) ?? 0;
}
