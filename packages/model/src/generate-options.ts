/** @file What generation can be asked for, and the check that finds every fault of a request at once. */
import { MoebiusError } from '@moebius/core';
import type { Rng } from '@moebius/core';

import type { ModelConfig } from './config.ts';

/** How the next token is drawn; filters work in the order temperature, top-k, top-p, min-p. */
export interface SamplingOptions {
  /** Where random numbers come from; one draw per token and sequence. */
  readonly rng: Rng;
  /** Place of the first sequence in a longer list that is made in several batches: draws then do not depend on the cut. Default 0. */
  readonly firstPlace?: number;
  /** Divides the logits, above 0. Default 1. */
  readonly temperature?: number;
  /** Only the k most probable tokens; 0, or more than V, for all. Default 0. */
  readonly topK?: number;
  /** Only the smallest set of most probable tokens that reaches this probability, in (0, 1]. Default 1. */
  readonly topP?: number;
  /** Only tokens at least this share as probable as the most probable one, in [0, 1]. Default 0: all. */
  readonly minP?: number;
}

/** What makes tokens that were there before less probable; greedy decoding obeys it too. */
export interface PenaltyOptions {
  /**
   * Above 1 makes every token of the prompt and of the new text less probable: a logit below 0 is multiplied by it,
   * one from 0 divided (Hugging Face's `repetition_penalty`). Default 1: no change.
   */
  readonly repetition?: number;
  /** Subtracted from the logit of every token that the new text holds. Default 0. */
  readonly presence?: number;
  /** Subtracted from a token's logit as often as the new text holds it. Default 0. */
  readonly frequency?: number;
}

/** How `generate` runs. A row of logits goes through penalties, temperature, top-k, top-p, min-p, in this order. */
export interface GenerateOptions {
  /** At most this many tokens per sequence. */
  readonly maxNewTokens: number;
  /** Draw instead of taking the most probable token. */
  readonly sampling?: SamplingOptions;
  /** Make repeated tokens less probable. */
  readonly penalties?: PenaltyOptions;
  /** A token that ends its sequence; it is yielded. Default: the model's `generation.eos_token_id`. */
  readonly stopTokens?: readonly number[];
  /** Asked once for every token made, in order; true ends its sequence there (`finished: 'stop'`). */
  readonly stopWhen?: (sequence: number, token: number) => boolean;
  /** Also give the log-probability of each token under the model's own distribution. Default false. */
  readonly logprobs?: boolean;
  /** Ends generation with an `aborted` error. */
  readonly signal?: AbortSignal;
}

/**
 * All faults of a request at once.
 *
 * @returns the longest prompt's length
 * @throws `configuration`
 */
export function checkRequest(
  config: ModelConfig,
  prompts: readonly ArrayLike<number>[],
  options: GenerateOptions,
): number {
  const { maxNewTokens } = options;
  const faults: string[] = [];
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 0) {
    faults.push(`maxNewTokens: must be an integer from 0, got ${maxNewTokens}`);
  }
  if (prompts.length === 0) faults.push('prompts: must hold at least one prompt, got 0');
  const empty = prompts.findIndex((prompt) => prompt.length === 0);
  if (empty >= 0)
    faults.push(`prompts[${empty}]: must hold at least one token, got 0 (start with bos_token_id)`);
  faults.push(...samplingFaults(options.sampling), ...penaltyFaults(options.penalties));
  const longest = Math.max(0, ...prompts.map((prompt) => prompt.length));
  const most = config.max_position_embeddings;
  if (longest + maxNewTokens > most) {
    faults.push(
      `prompt and new tokens: must be at most max_position_embeddings ${most}, got ${longest} + ${maxNewTokens}`,
    );
  }
  if (faults.length > 0) {
    throw new MoebiusError({
      code: 'configuration',
      message: `generate: ${faults.join('; ')}`,
      details: { faults, longest, maxNewTokens, limit: most },
    });
  }
  return longest;
}

function samplingFaults(sampling: SamplingOptions | undefined): string[] {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, firstPlace = 0 } = sampling ?? {};
  const faults: string[] = [];
  if (!(temperature > 0 && Number.isFinite(temperature))) {
    faults.push(`sampling.temperature: must be above 0, got ${temperature} (leave sampling out for greedy)`);
  }
  if (!Number.isInteger(topK) || topK < 0)
    faults.push(`sampling.topK: must be an integer from 0, got ${topK}`);
  if (!Number.isInteger(firstPlace) || firstPlace < 0) {
    faults.push(`sampling.firstPlace: must be an integer from 0, got ${firstPlace}`);
  }
  if (!(topP > 0 && topP <= 1)) faults.push(`sampling.topP: must be in (0, 1], got ${topP}`);
  if (!(minP >= 0 && minP <= 1)) faults.push(`sampling.minP: must be in [0, 1], got ${minP}`);
  return faults;
}

function penaltyFaults(penalties: PenaltyOptions | undefined): string[] {
  const { repetition = 1, presence = 0, frequency = 0 } = penalties ?? {};
  const faults: string[] = [];
  if (!(repetition > 0 && Number.isFinite(repetition))) {
    faults.push(`penalties.repetition: must be above 0, got ${repetition} (1 changes nothing)`);
  }
  if (!Number.isFinite(presence)) faults.push(`penalties.presence: must be finite, got ${presence}`);
  if (!Number.isFinite(frequency)) faults.push(`penalties.frequency: must be finite, got ${frequency}`);
  return faults;
}
