/**
 * @file From a row of logits to a token: penalties, then the most probable one, or a draw after temperature, top-k,
 * top-p and min-p.
 */
import { MoebiusError } from '@moebius/core';
import type { Rng } from '@moebius/core';

import type { GenerateOptions, PenaltyOptions } from './generate-options.ts';
import {
  createTokenHistory,
  noteMade,
  penaliseInto,
  type Penalties,
  type TokenHistory,
} from './penalty.kernel.ts';
import { finiteArgmaxOf, logProbability, sampleToken } from './sample.kernel.ts';

/** A chosen token. */
export interface Choice {
  /** Its id. */
  readonly token: number;
  /** Natural logarithm of its probability before penalties, temperature and filters; only when asked for. */
  readonly logprob?: number;
}

/**
 * How a row of logits becomes a token; each sequence has its own stream of random numbers and its own history.
 *
 * @param options - penalties and sampling; checked
 * @param start - the prompts, and V
 * @returns takes a row `[V]`, which stays as it is, and its sequence; throws `numerics` when the row holds a NaN or
 * its largest value is not finite, before or after the penalties
 */
export function createChooser(
  options: GenerateOptions,
  start: { readonly prompts: readonly ArrayLike<number>[]; readonly vocabulary: number },
): (logits: Float32Array, sequence: number) => Choice {
  const { logprobs = false } = options;
  const penalise = createPenaliser(options.penalties, start);
  const draw = createDraw(options);
  return (logits, sequence) => {
    const best = assertFinite(logits, finiteArgmaxOf(logits));
    const row = penalise.apply(logits, sequence);
    const chosen = row === logits ? best : assertFinite(row, finiteArgmaxOf(row));
    const token = draw === null ? chosen : draw(row, sequence);
    penalise.note(token, sequence);
    return logprobs ? { token, logprob: logProbability(logits, token) } : { token };
  };
}

/** Draws from a row; null for greedy. */
function createDraw({ sampling }: GenerateOptions): ((row: Float32Array, sequence: number) => number) | null {
  if (sampling === undefined) return null;
  const { rng, firstPlace = 0, temperature = 1, topK = 0, topP = 1, minP = 0 } = sampling;
  const streams: { [sequence: number]: Rng } = {};
  return (row, sequence) => {
    const stream = (streams[sequence] ??= rng.fork(firstPlace + sequence));
    return sampleToken(row, { temperature, topK, topP, minP }, stream.uniform());
  };
}

interface Penaliser {
  /** The penalised row: a copy, or the row itself when there is no penalty. */
  apply(logits: Float32Array, sequence: number): Float32Array;
  /** Counts a token that was made. */
  note(token: number, sequence: number): void;
}

function createPenaliser(
  options: PenaltyOptions | undefined,
  { prompts, vocabulary }: { readonly prompts: readonly ArrayLike<number>[]; readonly vocabulary: number },
): Penaliser {
  const penalties: Penalties = { repetition: 1, presence: 0, frequency: 0, ...options };
  const { repetition, presence, frequency } = penalties;
  if (repetition === 1 && presence === 0 && frequency === 0) {
    return { apply: (logits) => logits, note: () => {} };
  }
  const histories: { [sequence: number]: TokenHistory } = {};
  const historyOf = (sequence: number): TokenHistory =>
    (histories[sequence] ??= createTokenHistory(prompts[sequence] ?? [], vocabulary));
  return {
    apply(logits, sequence) {
      const row = logits.slice();
      penaliseInto(row, historyOf(sequence), penalties);
      return row;
    },
    note: (token, sequence) => noteMade(historyOf(sequence), token),
  };
}

/** `best` is -1 when a logit is NaN or the largest one is not finite. */
function assertFinite(logits: Float32Array, best: number): number {
  if (best >= 0) return best;
  const bad = logits.find((logit) => Number.isNaN(logit)) ?? logits[0] ?? Number.NaN;
  throw new MoebiusError({
    code: 'numerics',
    message: `generate logits: must be finite, got ${String(bad)} (check the weights)`,
    details: { got: String(bad) },
  });
}
