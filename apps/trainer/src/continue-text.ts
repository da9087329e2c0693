/** @file Text from a model, as it comes. */
import { createRng } from '@moebius/core';
import { generate } from '@moebius/model';
import type { DecoderModel } from '@moebius/model';
import { createTextStream } from '@moebius/train';
import type { Tokenizer } from '@moebius/train';

/** What to continue, and how. */
export interface TextRequest {
  /** Text to continue; empty begins a new text. */
  readonly prompt: string;
  /** At most this many tokens. */
  readonly maxNewTokens: number;
  /** 0 takes the most probable token, more is more varied. */
  readonly temperature: number;
  /** Only the k most probable tokens; 0 for all. */
  readonly topK: number;
  /** Only the most probable tokens that reach this probability. */
  readonly topP: number;
  /** The same seed gives the same text. */
  readonly seed: number;
  /** Stops it. */
  readonly signal?: AbortSignal;
  /** Receives pieces of text. */
  readonly onText?: (piece: string) => void;
}

/** A text that was made. */
export interface MadeText {
  /** Without the prompt. */
  readonly text: string;
  /** How many tokens it has. */
  readonly tokens: number;
  /** Why it ends. */
  readonly finished: 'stop' | 'length';
}

/** Continues a text. A long prompt loses its beginning when the model has not enough positions. */
export async function continueText(
  { model, tokenizer }: { readonly model: DecoderModel; readonly tokenizer: Tokenizer },
  request: TextRequest,
): Promise<MadeText> {
  const { prompt, maxNewTokens, temperature, topK, topP, seed, signal, onText = () => {} } = request;
  const room = Math.max(1, model.config.max_position_embeddings - maxNewTokens);
  const ids = [tokenizer.endOfTextId, ...tokenizer.encode(prompt)].slice(-room);
  const sampling = { rng: createRng(seed), temperature, topK, topP };
  const stream = createTextStream(tokenizer);
  let text = '';
  let tokens = 0;
  let finished: MadeText['finished'] = 'length';
  const add = (piece: string): void => {
    text += piece;
    if (piece !== '') onText(piece);
  };
  const options = {
    maxNewTokens,
    ...(temperature > 0 ? { sampling } : {}),
    ...(signal === undefined ? {} : { signal }),
  };
  for await (const made of generate(model, ids, options)) {
    tokens += 1;
    add(stream.push(made.token));
    finished = made.finished ?? finished;
  }
  add(stream.flush());
  return { text, tokens, finished };
}
