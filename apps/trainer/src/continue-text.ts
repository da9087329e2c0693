/** @file Texts from a model, as they come. */
import { generateTexts } from '@moebius/train';
import type { GenerateTextOptions, TextSourceModel } from '@moebius/train';

/** How to continue a text. */
export interface TextRequest extends Omit<GenerateTextOptions, 'maximumTokens' | 'shorten'> {
  /** Text to continue; empty begins a new text. */
  readonly prompt: string;
  /** At most this many tokens. */
  readonly maxNewTokens: number;
  /** Receives pieces of text. */
  readonly onText?: (piece: string) => void;
}

/** How to continue several texts together. */
export interface TextsRequest extends Omit<TextRequest, 'prompt' | 'onText'> {
  /** Texts to continue; empty ones begin a new text. */
  readonly prompts: readonly string[];
  /** Receives pieces of text, and which prompt they continue. */
  readonly onText?: (piece: string, sequence: number) => void;
}

/** A token and how probable the model found it. */
export interface TokenLogprob {
  /** Its id. */
  readonly token: number;
  /** Natural logarithm, before penalties, temperature and filters. */
  readonly logprob: number;
}

/** A text that was made. */
export interface MadeText {
  /** Without the prompt. */
  readonly text: string;
  /** How many tokens were made, those of a stop string included. */
  readonly tokens: number;
  /** Why it ends. */
  readonly finished: 'stop' | 'length';
  /** One entry per token; only when asked for. */
  readonly logprobs?: readonly TokenLogprob[];
}

/** Continues a text. A long prompt loses its beginning when the model has not enough positions. */
export async function continueText(source: TextSourceModel, request: TextRequest): Promise<MadeText> {
  const { prompt, ...rest } = request;
  const [made] = await continueTexts(source, { ...rest, prompts: [prompt] });
  return made ?? { text: '', tokens: 0, finished: 'length' };
}

/** Continues several texts together, as {@link continueText} continues one; results in the order of the prompts. */
export async function continueTexts(source: TextSourceModel, request: TextsRequest): Promise<MadeText[]> {
  const { prompts, maxNewTokens, onText = () => {}, ...options } = request;
  const made = prompts.map(() => ({
    text: '',
    tokens: 0,
    finished: 'length' as MadeText['finished'],
    logprobs: [] as TokenLogprob[],
  }));
  const pieces = generateTexts(source, prompts, { ...options, maximumTokens: maxNewTokens, shorten: true });
  for await (const { sequence, text, token, logprob, finished } of pieces) {
    const entry = made[sequence];
    if (entry === undefined) continue;
    entry.tokens += 1;
    entry.text += text;
    entry.finished = finished ?? entry.finished;
    if (logprob !== undefined) entry.logprobs.push({ token, logprob });
    if (text !== '') onText(text, sequence);
  }
  return made.map(({ logprobs, ...entry }) => (options.logprobs === true ? { ...entry, logprobs } : entry));
}
