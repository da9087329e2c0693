/**
 * @file Generation: prefill and decode through one forward pass over a KV cache, token by token, as an async iterator.
 *
 * Prompts of a batch may differ in length: they are padded on the right for the prefill, and the padding's slots are
 * forgotten before the first token is chosen, so no row ever attends to it. A finished sequence leaves the batch.
 * Between tokens the event loop runs; a consumer that stops early, or aborts, frees the cache.
 *
 * Letters: `B` batch · `n` new rows per sequence · `D` model width · `V` vocabulary.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

import { MoebiusError, runAsync, throwIfAborted } from '@moebius/core';
import type { Rng } from '@moebius/core';
import { createKvCache, disposeTree, gather, readHost, runOp, tensor1d } from '@moebius/tensor';
import type { KvCache, Tensor2D } from '@moebius/tensor';

import type { DecoderModel } from './decoder.ts';
import { argmaxOf, logProbability, sampleToken } from './sample.kernel.ts';

/** How the next token is drawn. */
export interface SamplingOptions {
  /** Where random numbers come from; one draw per token and sequence. */
  readonly rng: Rng;
  /** Divides the logits, above 0. Default 1. */
  readonly temperature?: number;
  /** Only the k most probable tokens; 0 for all. Default 0. */
  readonly topK?: number;
  /** Only the smallest set of most probable tokens that reaches this probability, in (0, 1]. Default 1. */
  readonly topP?: number;
}

/** How {@link generate} runs. */
export interface GenerateOptions {
  /** At most this many tokens per sequence. */
  readonly maxNewTokens: number;
  /** Draw instead of taking the most probable token. */
  readonly sampling?: SamplingOptions;
  /** A token that ends its sequence; it is yielded. Default: the configuration's `eos_token_id`. */
  readonly stopTokens?: readonly number[];
  /** Also give the log-probability of each token under the unfiltered distribution. Default false. */
  readonly logprobs?: boolean;
  /** Ends generation with an `aborted` error. */
  readonly signal?: AbortSignal;
}

/** One token of a sequence. */
export interface GeneratedToken {
  /** Which prompt it continues. */
  readonly sequence: number;
  /** Place among the sequence's new tokens, from 0. */
  readonly index: number;
  /** Its id. */
  readonly token: number;
  /** Natural logarithm of its probability before temperature and filters; only when asked for. */
  readonly logprob?: number;
  /** Why the sequence ends here, or null when it goes on. */
  readonly finished: 'stop' | 'length' | null;
}

/**
 * Continues one prompt, greedily or by sampling.
 *
 * @param model - borrowed
 * @param prompt - at least one token id
 * @param options - length, sampling, stop tokens, abort signal
 * @returns tokens as they are made; stopping early frees everything
 * @throws `configuration` on faulty options, or when prompt and new tokens exceed `max_position_embeddings`; `data` on
 * ids outside the vocabulary; `numerics` when no logit is finite or one is NaN; `aborted` by the signal
 * @example
 * ```ts
 * const model = await loadModel('path/to/model');
 * for await (const { token } of generate(model, [1, 2, 3], { maxNewTokens: 20 })) console.log(token);
 * ```
 */
export function generate(
  model: DecoderModel,
  prompt: ArrayLike<number>,
  options: GenerateOptions,
): AsyncGenerator<GeneratedToken, void, void> {
  return generateBatch(model, [prompt], options);
}

interface Active {
  readonly sequence: number;
  readonly stopTokens: readonly number[];
  made: number;
  token: number;
}

/**
 * Continues several prompts together; tokens of one step come in the order of the prompts.
 *
 * @param model - borrowed
 * @param prompts - at least one, each of at least one token id; lengths may differ
 * @param options - as for {@link generate}; a sampling rng is forked per prompt, so that a prompt's text depends on
 * its own place and not on when its neighbours end
 * @returns tokens as they are made; stopping early frees everything
 * @throws as {@link generate}
 */
export async function* generateBatch(
  model: DecoderModel,
  prompts: readonly ArrayLike<number>[],
  options: GenerateOptions,
): AsyncGenerator<GeneratedToken, void, void> {
  const longest = checkRequest(model, prompts, options);
  const { maxNewTokens, signal } = options;
  throwIfAborted(signal, 'generate');
  if (maxNewTokens === 0) return;
  const choose = createChooser(options);
  const stopTokens = options.stopTokens ?? [model.config.eos_token_id ?? []].flat();
  const { num_hidden_layers: layers, num_key_value_heads: kvHeads, head_dim: headSize } = model.config;
  const cache = createKvCache({
    layers,
    batch: prompts.length,
    positions: longest + maxNewTokens,
    kvHeads,
    headSize,
  });
  let active: Active[] = prompts.map((_, sequence) => ({ sequence, stopTokens, made: 0, token: 0 }));
  try {
    let rows = await prefill(model, prompts, cache);
    for (;;) {
      for (const [at, entry] of active.entries()) {
        throwIfAborted(signal, 'generate');
        yield acceptToken(entry, choose(rows[at] ?? new Float32Array(0), entry.sequence), maxNewTokens);
      }
      const going = active.flatMap((entry, at) => (isDone(entry, maxNewTokens) ? [] : [at]));
      if (going.length === 0) return;
      if (going.length < active.length) {
        cache.gather(Int32Array.from(going));
        active = active.filter((entry) => !isDone(entry, maxNewTokens));
      }
      await nextTurn();
      throwIfAborted(signal, 'generate');
      const ids = Int32Array.from(active, (entry) => entry.token);
      rows = await forwardRows(model, { ids, cache, last: null });
    }
  } finally {
    cache.dispose();
  }
}

/** Runs all prompts, padded on the right, and forgets the padding. Logits of each prompt's last token. */
async function prefill(
  model: DecoderModel,
  prompts: readonly ArrayLike<number>[],
  cache: KvCache,
): Promise<Float32Array[]> {
  const lengths = Int32Array.from(prompts, (prompt) => prompt.length);
  const width = Math.max(...lengths);
  const ids = new Int32Array(prompts.length * width);
  for (const [at, prompt] of prompts.entries()) ids.set(Array.from(prompt), at * width);
  const last = lengths.map((length, at) => at * width + length - 1);
  const rows = await forwardRows(model, { ids, cache, last: width === 1 ? null : last });
  if (lengths.some((length) => length < width)) cache.truncate(lengths);
  return rows;
}

interface RowsRequest {
  readonly ids: Int32Array;
  readonly cache: KvCache;
  /** Rows whose logits are wanted; null for all. */
  readonly last: Int32Array | null;
}

/** Logits of chosen rows, on the host. */
async function forwardRows(model: DecoderModel, request: RowsRequest): Promise<Float32Array[]> {
  const { ids, cache, last } = request;
  const { hidden } = await runAsync(model.forward({ ids, batch: cache.options.batch }, { cache }));
  let logits_BV: Tensor2D | null = null;
  try {
    logits_BV = runOp('generate.logits', () =>
      model.logits(last === null ? hidden : gather<Tensor2D>(hidden, tensor1d(last, 'int32'))),
    );
    const values = (await readHost(logits_BV)) as Float32Array;
    const width = model.config.vocab_size;
    return Array.from({ length: values.length / width }, (_, row) =>
      values.subarray(row * width, (row + 1) * width),
    );
  } finally {
    disposeTree([hidden, logits_BV]);
  }
}

type Choice = Pick<GeneratedToken, 'token' | 'logprob'>;

/** How a row of logits becomes a token; each sequence has its own stream of random numbers. */
function createChooser(options: GenerateOptions): (logits: Float32Array, sequence: number) => Choice {
  const { sampling, logprobs = false } = options;
  const streams: { [sequence: number]: Rng } = {};
  return (logits, sequence) => {
    let token = argmaxOf(logits);
    assertFinite(logits, token);
    if (sampling !== undefined) {
      const { rng, temperature = 1, topK = 0, topP = 1 } = sampling;
      const stream = (streams[sequence] ??= rng.fork(sequence));
      token = sampleToken(logits, { temperature, topK, topP }, stream.uniform());
    }
    return logprobs ? { token, logprob: logProbability(logits, token) } : { token };
  };
}

/** A NaN anywhere makes the sum NaN; the largest logit must be finite. */
function assertFinite(logits: Float32Array, best: number): void {
  const sum = logits.reduce((total, logit) => total + logit, 0);
  if (Number.isFinite(logits[best]) && !Number.isNaN(sum)) return;
  throw new MoebiusError({
    code: 'numerics',
    message: `generate logits: must be finite, got ${String(logits[best])} (check the weights)`,
    details: { best: String(logits[best]) },
  });
}

/** Notes a chosen token in its sequence. */
function acceptToken(entry: Active, choice: Choice, maxNewTokens: number): GeneratedToken {
  const index = entry.made;
  entry.token = choice.token;
  entry.made += 1;
  return { sequence: entry.sequence, index, ...choice, finished: reasonToEnd(entry, maxNewTokens) };
}

function reasonToEnd(entry: Active, maxNewTokens: number): GeneratedToken['finished'] {
  if (entry.stopTokens.includes(entry.token)) return 'stop';
  return entry.made >= maxNewTokens ? 'length' : null;
}

function isDone(entry: Active, maxNewTokens: number): boolean {
  return reasonToEnd(entry, maxNewTokens) !== null;
}

/** All faults of a request at once. Returns the longest prompt's length. */
function checkRequest(
  model: DecoderModel,
  prompts: readonly ArrayLike<number>[],
  options: GenerateOptions,
): number {
  const faults: string[] = [];
  const { maxNewTokens, sampling } = options;
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 0) {
    faults.push(`maxNewTokens: must be an integer from 0, got ${maxNewTokens}`);
  }
  if (prompts.length === 0) faults.push('prompts: must hold at least one prompt, got 0');
  const empty = prompts.findIndex((prompt) => prompt.length === 0);
  if (empty >= 0)
    faults.push(`prompts[${empty}]: must hold at least one token, got 0 (start with bos_token_id)`);
  const { temperature = 1, topK = 0, topP = 1 } = sampling ?? {};
  if (!(temperature > 0 && Number.isFinite(temperature))) {
    faults.push(`sampling.temperature: must be above 0, got ${temperature} (leave sampling out for greedy)`);
  }
  if (!Number.isInteger(topK) || topK < 0)
    faults.push(`sampling.topK: must be an integer from 0, got ${topK}`);
  if (!(topP > 0 && topP <= 1)) faults.push(`sampling.topP: must be in (0, 1], got ${topP}`);
  const longest = Math.max(0, ...prompts.map((prompt) => prompt.length));
  const most = model.config.max_position_embeddings;
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
