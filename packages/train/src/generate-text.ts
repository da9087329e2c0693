/**
 * @file Text from a model: a prompt in, pieces of text out as they are made.
 */
import { createRng } from '@moebius/core';
import { generate } from '@moebius/model';
import type { DecoderModel } from '@moebius/model';

import { createTextStream } from './tokenizer/text-stream.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

/** How text is made. */
export interface GenerateTextOptions {
  /** At most this many tokens. Default 100. */
  readonly maximumTokens?: number;
  /** 0 takes the most probable token; above, draws with the logits divided by it. Default 0.8. */
  readonly temperature?: number;
  /** Only the k most probable tokens; 0 for all. Default 40. */
  readonly topK?: number;
  /** Only the smallest set of most probable tokens that reaches this probability. Default 1. */
  readonly topP?: number;
  /** Of the draws. Default 0. */
  readonly seed?: number;
  /** Ends it with an `aborted` error. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Continues a prompt. The text ends at the tokenizer's end-of-text id, or after `maximumTokens`.
 *
 * @param source - a model, borrowed, and the tokenizer it was trained with
 * @param prompt - may be empty: then a text begins
 * @returns pieces of text, in order; whole characters only; stopping early frees everything
 * @throws as `generate` of `@moebius/model`
 * @example
 * ```ts
 * import { loadModel } from '@moebius/model';
 *
 * const model = await loadModel('runs/demo/model');
 * const tokenizer = await readTokenizer('runs/demo/model');
 * for await (const piece of generateText({ model, tokenizer }, 'Fellow citizens')) process.stdout.write(piece);
 * ```
 */
export async function* generateText(
  source: { readonly model: DecoderModel; readonly tokenizer: Tokenizer },
  prompt: string,
  options: GenerateTextOptions = {},
): AsyncGenerator<string, void, void> {
  const { model, tokenizer } = source;
  const { maximumTokens = 100, temperature = 0.8, topK = 40, topP = 1, seed = 0, signal } = options;
  const ids = [tokenizer.endOfTextId, ...tokenizer.encode(prompt)];
  const rng = createRng([seed]).fork('generate');
  const stream = createTextStream(tokenizer);
  const tokens = generate(model, ids, {
    maxNewTokens: maximumTokens,
    stopTokens: [tokenizer.endOfTextId],
    ...(temperature === 0 ? {} : { sampling: { rng, temperature, topK, topP } }),
    ...(signal === undefined ? {} : { signal }),
  });
  for await (const { token } of tokens) {
    const piece = stream.push(token);
    if (piece !== '') yield piece;
  }
  const rest = stream.flush();
  if (rest !== '') yield rest;
}
