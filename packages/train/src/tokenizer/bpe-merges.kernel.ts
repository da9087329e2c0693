/**
 * @file Learning byte-pair merges: typed-array loops, no tensors.
 *
 * Each distinct word is a list of token ids with a count. The pair of neighbouring ids with the largest count is
 * merged everywhere, again and again. Counts are kept up to date by looking only at the words that hold the pair;
 * the largest is found by a heap whose stale entries are corrected when they surface.
 *
 * Ties: larger count first, then the smaller left id, then the smaller right id. Ids are special tokens, then the
 * 256 bytes in alphabet order, then merges in order, so the rule is the one of Hugging Face's `BpeTrainer`.
 */
import { createPriorityHeap } from './priority-heap.ts';

/** What merges are learned from. */
export interface MergeInput {
  /** All words' token ids, one word after the other. Consumed: merged in place. */
  readonly ids: Int32Array;
  /** Start of each word in `ids`, and the end of the last: `[words + 1]`. */
  readonly starts: Int32Array;
  /** How often each word occurs: `[words]`. */
  readonly counts: Float64Array;
}

/** When to stop, and how new tokens are numbered. */
export interface MergeRule {
  /** The id after the merge of `left` and `right`: a new one, or that of an equal token that exists. */
  readonly merge: (left: number, right: number) => number;
  /** Whether another token may be made. */
  readonly hasRoom: () => boolean;
  /** A pair rarer than this is not merged. */
  readonly minimumCount: number;
}

interface HeapEntry {
  readonly count: number;
  readonly pair: number;
}

const pairBase = 2 ** 24;

/**
 * Learns merges and applies them to the words.
 *
 * @returns the merged pairs of ids `[left, right]`, in order
 */
export function learnMerges(input: MergeInput, rule: MergeRule): [number, number][] {
  const { ids, starts, counts } = input;
  const words = counts.length;
  const lengths = Int32Array.from(counts, (_, word) => starts[word + 1]! - starts[word]!);
  const pairCounts = new Map<number, number>();
  const pairWords = new Map<number, number[]>();
  const grown = new Set<number>();
  const add = (left: number, right: number, word: number): void => {
    const pair = left * pairBase + right;
    pairCounts.set(pair, (pairCounts.get(pair) ?? 0) + counts[word]!);
    const list = pairWords.get(pair);
    if (list === undefined) pairWords.set(pair, [word]);
    else if (list.at(-1) !== word) list.push(word);
    grown.add(pair);
  };
  const remove = (left: number, right: number, word: number): void => {
    const pair = left * pairBase + right;
    pairCounts.set(pair, (pairCounts.get(pair) ?? 0) - counts[word]!);
  };
  for (let word = 0; word < words; word++) {
    for (let at = starts[word]!; at + 1 < starts[word + 1]!; at++) add(ids[at]!, ids[at + 1]!, word);
  }
  const heap = createPriorityHeap<HeapEntry>(
    (a, b) => a.count > b.count || (a.count === b.count && a.pair < b.pair),
  );
  const pushGrown = (): void => {
    for (const pair of grown) heap.push({ count: pairCounts.get(pair)!, pair });
    grown.clear();
  };
  pushGrown();
  const merges: [number, number][] = [];
  const visited = new Int32Array(words).fill(-1);
  while (rule.hasRoom()) {
    const top = heap.pop();
    if (top === undefined) break;
    const actual = pairCounts.get(top.pair)!;
    if (top.count !== actual) {
      if (actual > 0) heap.push({ count: actual, pair: top.pair });
      continue;
    }
    if (top.count < Math.max(1, rule.minimumCount)) break;
    const left = Math.floor(top.pair / pairBase);
    const right = top.pair % pairBase;
    const merged = rule.merge(left, right);
    const holders = pairWords.get(top.pair)!;
    pairWords.delete(top.pair);
    for (const word of holders) {
      if (visited[word] === merges.length) continue;
      visited[word] = merges.length;
      const span = ids.subarray(starts[word]!, starts[word]! + lengths[word]!);
      lengths[word] = mergeWord(span, left, right, merged, { add, remove, word });
    }
    merges.push([left, right]);
    pairCounts.set(top.pair, 0);
    grown.delete(top.pair);
    pushGrown();
  }
  return merges;
}

interface PairChanges {
  readonly add: (left: number, right: number, word: number) => void;
  readonly remove: (left: number, right: number, word: number) => void;
  readonly word: number;
}

/** Merges one word in place, left to right, and reports how its neighbouring pairs change; returns its new length. */
function mergeWord(
  span: Int32Array,
  left: number,
  right: number,
  merged: number,
  changes: PairChanges,
): number {
  let write = 0;
  let read = 0;
  while (read < span.length) {
    if (span[read] !== left || read + 1 >= span.length || span[read + 1] !== right) {
      span[write++] = span[read++]!;
      continue;
    }
    if (write > 0) {
      const previous = span[write - 1]!;
      changes.remove(previous, left, changes.word);
      changes.add(previous, merged, changes.word);
    }
    if (read + 2 < span.length) {
      const next = span[read + 2]!;
      changes.remove(right, next, changes.word);
      changes.add(merged, next, changes.word);
    }
    span[write++] = merged;
    read += 2;
  }
  return write;
}
