/**
 * @file Penalties on tokens that were there before, on a row of logits `[V]` on the host.
 *
 * First the repetition penalty of Hugging Face (`RepetitionPenaltyLogitsProcessor`): of every token of the prompt or
 * of the new text, a logit below 0 is multiplied by it and one from 0 divided, once however often the token stands
 * there. Then `presence + frequency · count` is subtracted, where `count` is of the new text only. Arithmetic is
 * float32. The work is proportional to the number of different tokens seen, not to V.
 */

/** Penalties with every value given; 1, 0, 0 change nothing. */
export interface Penalties {
  /** Above 0. */
  readonly repetition: number;
  /** Finite. */
  readonly presence: number;
  /** Finite. */
  readonly frequency: number;
}

/** What a sequence holds so far. */
export interface TokenHistory {
  /** Different tokens of prompt and new text, in order of first appearance. */
  readonly seen: number[];
  /** Uint8Array `[V]`: 1 for those in `seen`. */
  readonly isSeen: Uint8Array;
  /** Int32Array `[V]`: how often the new text holds each token. */
  readonly made: Int32Array;
}

/** The history of a prompt whose continuation has not begun; ids outside the vocabulary are left out. */
export function createTokenHistory(prompt: ArrayLike<number>, vocabulary: number): TokenHistory {
  const history = { seen: [], isSeen: new Uint8Array(vocabulary), made: new Int32Array(vocabulary) };
  for (let at = 0; at < prompt.length; at += 1) noteSeen(history, prompt[at]!);
  return history;
}

/** Counts a new token. */
export function noteMade(history: TokenHistory, token: number): void {
  noteSeen(history, token);
  history.made[token]! += 1;
}

function noteSeen({ seen, isSeen }: TokenHistory, token: number): void {
  if (isSeen[token] !== 0) return;
  isSeen[token] = 1;
  seen.push(token);
}

/**
 * Lowers the logits of tokens that were there before.
 *
 * @param logits - `[V]`, written
 */
export function penaliseInto(logits: Float32Array, history: TokenHistory, penalties: Penalties): void {
  const repetition = Math.fround(penalties.repetition);
  const { presence, frequency } = penalties;
  for (const id of history.seen) {
    const logit = logits[id]!;
    const repeated = Math.fround(logit < 0 ? logit * repetition : logit / repetition);
    const count = history.made[id]!;
    logits[id] = count === 0 ? repeated : repeated - presence - frequency * count;
  }
}
