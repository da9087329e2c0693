/**
 * @file Measuring a model on held-out documents: loss, perplexity, bits per byte. Windows do not overlap, every token
 * is counted once, end-of-text is context and never a target.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

import { MoebiusError, runAsync, throwIfAborted } from '@moebius/core';
import type { DecoderModel } from '@moebius/model';

import { evaluationRows, planEvaluation } from '../data/evaluation-rows.ts';
import type { TokenShard } from '../data/token-shard.ts';

/** How a model did. */
export interface EvaluationResult {
  /** Mean cross-entropy of a token, nats. */
  readonly loss: number;
  /** `exp(loss)`. */
  readonly perplexity: number;
  /** Bits per UTF-8 byte: comparable between tokenizers. */
  readonly bitsPerByte: number;
  /** Tokens counted. */
  readonly evaluatedTokens: number;
  /** Bytes of text those tokens stand for. */
  readonly evaluatedBytes: number;
  readonly documents: number;
}

/** How to measure. */
export interface EvaluateOptions {
  /** Tokens of a window, S. Default 256. */
  readonly length?: number;
  /** Windows of a batch, B. Default 8. */
  readonly sequences?: number;
  /** About this many tokens, in windows spread evenly over all documents. Default all. */
  readonly maximumTokens?: number;
  /** Do not route what stands behind a document's end, so that it takes no expert's capacity. Default false. */
  readonly skipPadding?: boolean;
  /** Stops between two batches. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Measures a model on a shard. Gives the event loop a turn between batches.
 *
 * @param model - borrowed
 * @param shard - of a tokenizer whose ids the model knows
 * @throws `data` when the shard is empty or its vocabulary larger than the model's, `aborted` by the signal
 */
export async function evaluate(
  model: DecoderModel,
  shard: TokenShard,
  options: EvaluateOptions = {},
): Promise<EvaluationResult> {
  const { length = 256, sequences = 8, maximumTokens, skipPadding = false, signal } = options;
  const rows = { length, rows: sequences, maximumTokens };
  const plan = planEvaluation(shard, rows);
  assertUsable(model, shard, plan.tokens);
  let nats = 0;
  for (const batch of evaluationRows(shard, plan, rows)) {
    throwIfAborted(signal, 'evaluation');
    const { ids, targets, mask } = batch;
    const padding = skipPadding && mask.includes(0) ? { mask } : {};
    const { crossEntropy, count } = await runAsync(
      model.loss({ ids, targets, batch: batch.rows, ...padding }, { training: false, balance: [] }),
    );
    nats += crossEntropy * count;
    await nextTurn();
  }
  const loss = nats / plan.tokens;
  return {
    loss,
    perplexity: Math.exp(loss),
    bitsPerByte: nats / Math.LN2 / plan.bytes,
    evaluatedTokens: plan.tokens,
    evaluatedBytes: plan.bytes,
    documents: plan.documents,
  };
}

/**
 * Refuses a shard that the model cannot be measured on.
 *
 * @param tokens - how many would be counted
 * @throws `data` when there are none, or ids the model does not know
 */
export function assertUsable(model: DecoderModel, shard: TokenShard, tokens: number): void {
  if (tokens === 0) {
    throw new MoebiusError({
      code: 'data',
      message: 'held-out text: must have at least one token, got none (add text)',
    });
  }
  if (shard.vocabularySize <= model.config.vocab_size) return;
  throw new MoebiusError({
    code: 'data',
    message: `held-out text: its tokenizer's ${shard.vocabularySize} ids must fit the model's vocabulary, got ${model.config.vocab_size} (use the tokenizer.json of the model's folder)`,
    details: { tokenizer: shard.vocabularySize, model: model.config.vocab_size },
  });
}
