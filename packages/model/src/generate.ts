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

import { runAsync, throwIfAborted } from '@moebius/core';
import { createKvCache, disposeTree, gather, readHost, runOp, tensor1d } from '@moebius/tensor';
import type { KvCache, Tensor2D } from '@moebius/tensor';

import { type Choice, createChooser } from './choose-token.ts';
import type { DecoderModel } from './decoder.ts';
import { checkRequest, type GenerateOptions } from './generate-options.ts';

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
 * @param options - length, penalties, sampling, stop tokens, abort signal
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
  made: number;
  token: number;
  finished: GeneratedToken['finished'];
}

/** When a sequence ends. */
interface Ending {
  readonly maxNewTokens: number;
  readonly stopTokens: readonly number[];
  readonly stopWhen: NonNullable<GenerateOptions['stopWhen']>;
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
  const longest = checkRequest(model.config, prompts, options);
  const { maxNewTokens, signal } = options;
  throwIfAborted(signal, 'generate');
  if (maxNewTokens === 0) return;
  const choose = createChooser(options, { prompts, vocabulary: model.config.vocab_size });
  const { stopTokens = [model.generation.eos_token_id ?? []].flat(), stopWhen = () => false } = options;
  const ending: Ending = { maxNewTokens, stopTokens, stopWhen };
  const { num_hidden_layers: layers, num_key_value_heads: kvHeads, head_dim: headSize } = model.config;
  const cache = createKvCache({
    layers,
    batch: prompts.length,
    positions: longest + maxNewTokens,
    kvHeads,
    headSize,
  });
  let active: Active[] = prompts.map((_, sequence) => ({ sequence, made: 0, token: 0, finished: null }));
  try {
    let rows = await prefill(model, prompts, cache);
    for (;;) {
      for (const [at, entry] of active.entries()) {
        throwIfAborted(signal, 'generate');
        yield acceptToken(entry, choose(rows[at] ?? new Float32Array(0), entry.sequence), ending);
      }
      const going = active.flatMap((entry, at) => (entry.finished === null ? [at] : []));
      if (going.length === 0) return;
      if (going.length < active.length) {
        cache.gather(Int32Array.from(going));
        active = active.filter((entry) => entry.finished === null);
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

/** Notes a chosen token in its sequence. */
function acceptToken(entry: Active, choice: Choice, ending: Ending): GeneratedToken {
  const index = entry.made;
  entry.token = choice.token;
  entry.made += 1;
  const asked = ending.stopWhen(entry.sequence, choice.token);
  const stops = asked || ending.stopTokens.includes(choice.token);
  entry.finished = stops ? 'stop' : entry.made >= ending.maxNewTokens ? 'length' : null;
  return { sequence: entry.sequence, index, ...choice, finished: entry.finished };
}
