/**
 * @file Sums over the tokens of one gate, for statistics: how sure it is, and how much its first choice counts.
 *
 * Letters: `T` tokens, `E` experts, `N` routed pairs.
 */

/** Sums of one batch; they add up. */
export interface RoutingSums {
  /** Float64Array `[E]`: pairs of each expert. */
  readonly load: Float64Array;
  /** Routed tokens. */
  tokens: number;
  /** Sum of the weights of first choices. */
  topWeight: number;
  /** Sum of the entropies of tokens' scores over the largest possible, each from 0 (sure) to 1 (even). */
  entropy: number;
}

/** Which pairs there are; the arrays of a dispatch plan. */
export interface RoutedPairs {
  /** Int32Array `[T+1]`. */
  readonly tokenOffsets: Int32Array;
  /** Int32Array `[N]`, best expert first. */
  readonly slot: Int32Array;
  /** Int32Array `[N]`, `token·E + expert`. */
  readonly source: Int32Array;
}

/**
 * Adds one batch.
 *
 * @param sums - written
 * @param pairs - of the batch
 * @param gate - `scores` float32 `[T·E]`; `renormalise`: weights are divided by their sum over a token's experts
 */
export function addRoutingSumsInto(
  sums: RoutingSums,
  pairs: RoutedPairs,
  gate: { readonly scores: Float32Array; readonly renormalise: boolean },
): void {
  const { tokenOffsets, slot, source } = pairs;
  const { scores } = gate;
  const experts = sums.load.length;
  for (let token = 0; token + 1 < tokenOffsets.length; token++) {
    const first = tokenOffsets[token]!;
    const end = tokenOffsets[token + 1]!;
    if (end === first) continue;
    let largest = 0;
    let chosen = 0;
    for (let at = first; at < end; at++) {
      const place = source[slot[at]!]!;
      const score = scores[place]!;
      const expert = place - token * experts;
      sums.load[expert] = sums.load[expert]! + 1;
      chosen += score;
      if (score > largest) largest = score;
    }
    sums.tokens += 1;
    sums.topWeight += gate.renormalise ? largest / chosen : largest;
    sums.entropy += rowEntropy(scores, token * experts, experts);
  }
}

/** Entropy of a row of scores over that of an even row; scores need not sum to 1. */
function rowEntropy(scores: Float32Array, start: number, experts: number): number {
  if (experts < 2) return 0;
  let total = 0;
  for (let expert = 0; expert < experts; expert++) total += scores[start + expert]!;
  let entropy = 0;
  for (let expert = 0; expert < experts; expert++) {
    const share = scores[start + expert]! / total;
    if (share > 0) entropy -= share * Math.log(share);
  }
  return entropy / Math.log(experts);
}
