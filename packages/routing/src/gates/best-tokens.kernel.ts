/**
 * @file Tokens that are worth an expert: the best of a group, or all above a threshold. Each goes to its best expert.
 *
 * Letters: `T` tokens, `E` experts.
 */
import type { Choice } from './stages.ts';
import { chooseEach } from './token-hash.kernel.ts';

/** Rows that tokens are judged by. */
export interface TokenRows {
  /** `[T, E]`, only read. */
  readonly logits: ArrayLike<number>;
  /** `T`. */
  readonly tokens: number;
  /** `E`. */
  readonly experts: number;
  /** Uint8Array `[T]`, 0 gets nothing. */
  readonly mask?: Uint8Array;
}

/**
 * The tokens of each group whose largest logits are the largest; ties go to the earliest token and the lowest expert.
 *
 * @param rows - logits of the batch
 * @param among - Int32Arrays of the tokens of each group, and how many of a group are taken
 */
export function bestTokens(
  rows: TokenRows,
  {
    cells,
    capacity,
  }: { readonly cells: readonly Int32Array[]; readonly capacity: (tokens: number) => number },
): Choice {
  const best = bestExperts(rows);
  const taken = new Set<number>();
  for (const cell of cells) {
    const order = cell.toSorted((a, b) => best.logit[b]! - best.logit[a]! || a - b);
    for (const t of order.subarray(0, capacity(cell.length))) taken.add(t);
  }
  return chooseEach({ tokens: rows.tokens, expertsOf: (t) => (taken.has(t) ? [best.expert[t]!] : []) });
}

/** The tokens that are not masked and whose largest logit is above a threshold. */
export function tokensAbove(rows: TokenRows, threshold: number): Choice {
  const best = bestExperts(rows);
  const { tokens, mask } = rows;
  const expertsOf = (t: number): number[] => (best.logit[t]! > threshold ? [best.expert[t]!] : []);
  return chooseEach({ tokens, expertsOf, ...(mask === undefined ? {} : { mask }) });
}

function bestExperts({ logits, tokens, experts }: TokenRows): {
  readonly expert: Int32Array;
  readonly logit: Float64Array;
} {
  const expert = new Int32Array(tokens);
  const logit = new Float64Array(tokens).fill(-Infinity);
  for (let t = 0; t < tokens; t += 1)
    for (let e = 0; e < experts; e += 1) {
      const value = logits[t * experts + e]!;
      if (value <= logit[t]!) continue;
      logit[t] = value;
      expert[t] = e;
    }
  return { expert, logit };
}
