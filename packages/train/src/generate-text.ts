/**
 * @file Text from a model: prompts in, pieces of text out as they are made.
 */
import { createRng } from '@moebius/core';
import { generateBatch } from '@moebius/model';
import type { DecoderModel, GeneratedToken, GenerateOptions } from '@moebius/model';

import { createStopFilter } from './stop-strings.ts';
import { createTextStream } from './tokenizer/text-stream.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

/** How text is made. Order: penalties, temperature, top-k, top-p, min-p, as in Hugging Face's generate. */
export interface GenerateTextOptions {
  /** At most this many tokens. Default 100. */
  readonly maximumTokens?: number;
  /** 0 takes the most probable token; above, draws with the logits divided by it. Default 0.8. */
  readonly temperature?: number;
  /** Only the k most probable tokens; 0 for all. Default 40. */
  readonly topK?: number;
  /** Only the smallest set of most probable tokens that reaches this probability. Default 1. */
  readonly topP?: number;
  /** Only tokens at least this share as probable as the most probable one. Default 0. */
  readonly minP?: number;
  /** Above 1 makes tokens of prompt and text less probable. Default 1. */
  readonly repetitionPenalty?: number;
  /** Subtracted from the logit of every token that the new text holds. Default 0. */
  readonly presencePenalty?: number;
  /** Subtracted from a token's logit as often as the new text holds it. Default 0. */
  readonly frequencyPenalty?: number;
  /** Strings that end the text; neither they nor what follows is given out. Default none. */
  readonly stop?: readonly string[];
  /** Of the draws. Default 0. */
  readonly seed?: number;
  /** Place of the first prompt in a longer list that is made in several batches: draws then do not depend on the cut. Default 0. */
  readonly firstPlace?: number;
  /** A prompt that leaves no room loses its beginning instead of being refused. Default false. */
  readonly shorten?: boolean;
  /** Also give the log-probability of each token. Default false. */
  readonly logprobs?: boolean;
  /** Ends it with an `aborted` error. */
  readonly signal?: AbortSignal | undefined;
}

/** One token of a text, and the text that is clear with it. */
export interface TextPiece {
  /** Which prompt it continues. */
  readonly sequence: number;
  /** Whole characters; empty inside a character, and while it could be the beginning of a stop string. */
  readonly text: string;
  /** The token's id. Tokens of a stop string are there too, without their text. */
  readonly token: number;
  /** Natural logarithm of its probability under the model's own distribution; only when asked for. */
  readonly logprob?: number;
  /** Why the text ends here (`stop`: a stop string or an end-of-text token), or null when it goes on. */
  readonly finished: 'stop' | 'length' | null;
}

/** A model, borrowed, and the tokenizer it was trained with. */
export interface TextSourceModel {
  /** Borrowed. */
  readonly model: DecoderModel;
  /** Of the model. */
  readonly tokenizer: Tokenizer;
}

/**
 * Continues a prompt. The text ends at a stop string, at an end-of-text id, or after `maximumTokens`.
 *
 * @param source - a model, borrowed, and the tokenizer it was trained with
 * @param prompt - may be empty: then a text begins
 * @returns pieces of text, in order; whole characters only; stopping early frees everything
 * @throws as `generate` of `@moebius/model`; `configuration` on an empty stop string
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
  source: TextSourceModel,
  prompt: string,
  options: GenerateTextOptions = {},
): AsyncGenerator<string, void, void> {
  for await (const { text } of generateTexts(source, [prompt], options)) if (text !== '') yield text;
}

/**
 * Continues several prompts together, as {@link generateText} continues one; a text that ends leaves the batch.
 *
 * @param source - a model, borrowed, and the tokenizer it was trained with
 * @param prompts - at least one; may be empty strings
 * @returns one piece per token; those of one step come in the order of the prompts
 * @throws as {@link generateText}
 * @example
 * ```ts
 * import { loadModel } from '@moebius/model';
 *
 * const source = { model: await loadModel('path/to/model'), tokenizer: await readTokenizer('path/to/model') };
 * const texts = ['', ''];
 * for await (const { sequence, text } of generateTexts(source, ['We ', 'They '], { stop: ['\n'] })) {
 *   texts[sequence] += text;
 * }
 * ```
 */
export async function* generateTexts(
  source: TextSourceModel,
  prompts: readonly string[],
  options: GenerateTextOptions = {},
): AsyncGenerator<TextPiece, void, void> {
  const { model, tokenizer } = source;
  const { maximumTokens = 100, stop = [], shorten = false } = options;
  const writers = prompts.map(() => createWriter(tokenizer, stop));
  const room = shorten ? Math.max(1, model.config.max_position_embeddings - maximumTokens) : Infinity;
  const ids = prompts.map((prompt) => {
    const all = [tokenizer.endOfTextId, ...tokenizer.encode(prompt)];
    return all.length > room ? all.slice(-room) : all;
  });
  const tokens = generateBatch(model, ids, {
    ...tokenOptions(options),
    maxNewTokens: maximumTokens,
    stopTokens: [tokenizer.endOfTextId, ...[model.generation.eos_token_id ?? []].flat()],
    stopWhen: (sequence, token) => writers[sequence]?.push(token) ?? false,
  });
  for await (const made of tokens) {
    const { sequence, token, logprob } = made;
    const ending = writers[sequence]?.take(made.finished) ?? { text: '', finished: made.finished };
    yield { sequence, token, ...ending, ...(logprob === undefined ? {} : { logprob }) };
  }
}

/** What concerns the choice of tokens. */
function tokenOptions(options: GenerateTextOptions): Omit<GenerateOptions, 'maxNewTokens'> {
  const { temperature = 0.8, topK = 40, topP = 1, minP = 0, seed = 0, logprobs = false, signal } = options;
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, firstPlace = 0 } = options;
  const rng = createRng([seed]).fork('generate');
  return {
    logprobs,
    penalties: { repetition: repetitionPenalty, presence: presencePenalty, frequency: frequencyPenalty },
    ...(temperature === 0 ? {} : { sampling: { rng, firstPlace, temperature, topK, topP, minP } }),
    ...(signal === undefined ? {} : { signal }),
  };
}

type Finished = GeneratedToken['finished'];

interface Writer {
  /** Adds a token; true when a stop string is complete. */
  push(token: number): boolean;
  /** The text that is clear now; all of it when the text ends. */
  take(finished: Finished): { readonly text: string; readonly finished: Finished };
}

function createWriter(tokenizer: Tokenizer, stops: readonly string[]): Writer {
  const stream = createTextStream(tokenizer);
  const filter = createStopFilter(stops);
  let clear = '';
  return {
    push(token) {
      clear += filter.push(stream.push(token));
      return filter.stopped;
    },
    take(finished) {
      if (finished !== null && !filter.stopped) clear += filter.push(stream.flush()) + filter.flush();
      const text = clear;
      clear = '';
      return { text, finished: filter.stopped ? 'stop' : finished };
    },
  };
}
