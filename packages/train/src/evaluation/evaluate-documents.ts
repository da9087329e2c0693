/**
 * @file Measuring a model on held-out text document by document: what `evaluate` tells, for each of them, and how
 * sure the whole is. With a stride below the window's length every token (behind the first window of its document) sees
 * at least `length - stride` tokens before it.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

import { MoebiusError, runAsync, throwIfAborted } from '@moebius/core';
import type { DecoderModel, TrainingBatch } from '@moebius/model';
import { readHostSync } from '@moebius/tensor';

import { evaluationRows, planEvaluation } from '../data/evaluation-rows.ts';
import type { EvaluationPlan, EvaluationWindow } from '../data/evaluation-rows.ts';
import type { TokenShard } from '../data/token-shard.ts';
import { standardErrorOf } from './bootstrap.ts';
import type { DocumentBits } from './bootstrap.ts';
import { assertUsable } from './evaluate.ts';
import type { EvaluateOptions, EvaluationResult } from './evaluate.ts';

/** How a model did on one document. */
export interface DocumentResult extends DocumentBits {
  /** Index of the document in its shard. */
  readonly document: number;
  /** Tokens counted. */
  readonly tokens: number;
  /** Mean cross-entropy of a token, nats. */
  readonly loss: number;
  /** Bits per UTF-8 byte. */
  readonly bitsPerByte: number;
}

/** How a model did. */
export interface DocumentsResult extends EvaluationResult {
  /** Standard error of `bitsPerByte`, by drawing documents again; null with a single document. */
  readonly bitsPerByteError: number | null;
  /** One entry per document that was measured, in order. */
  readonly byDocument: readonly DocumentResult[];
}

/** How to measure. */
export interface EvaluateDocumentsOptions extends EvaluateOptions {
  /** Tokens from one window to the next, 1 to `length`. Default `length`: windows do not overlap. */
  readonly stride?: number | undefined;
  /** Of the draws for the standard error. Default 0. */
  readonly seed?: number;
  /** Told after each batch: share of the windows that are done. */
  readonly onProgress?: (share: number) => void;
}

/**
 * Measures a model on each document of a shard. Gives the event loop a turn between batches.
 *
 * @param model - borrowed
 * @param shard - of a tokenizer whose ids the model knows
 * @throws `configuration` for an impossible stride, `data` when the shard is empty or its vocabulary larger than the
 *   model's, `aborted` by the signal
 */
export async function evaluateDocuments(
  model: DecoderModel,
  shard: TokenShard,
  options: EvaluateDocumentsOptions = {},
): Promise<DocumentsResult> {
  const { length = 256, sequences = 8, maximumTokens, stride = length, seed = 0, signal } = options;
  const { skipPadding = false } = options;
  assertStride(stride, length);
  const rows = { length, rows: sequences, maximumTokens, stride };
  const plan = planEvaluation(shard, rows);
  assertUsable(model, shard, plan.tokens);
  const nats = new Float64Array(shard.bytes.length);
  let done = 0;
  for (const { ids, targets, mask, rows: count } of evaluationRows(shard, plan, rows)) {
    throwIfAborted(signal, 'evaluation');
    const padding = skipPadding && mask.includes(0) ? { mask } : {};
    const losses = await measureTokens(model, { ids, targets, batch: count, ...padding });
    for (const [row, { document }] of plan.windows.slice(done, done + count).entries()) {
      const own = losses.subarray(row * length, (row + 1) * length);
      nats[document] = own.reduce((sum, loss) => sum + loss, nats[document] ?? 0);
    }
    done += count;
    options.onProgress?.(done / plan.windows.length);
    await nextTurn();
  }
  return summarise(shard, plan, { nats, seed });
}

/** The loss of every token: float32 `[T]`, 0 where it does not count. */
async function measureTokens(model: DecoderModel, input: TrainingBatch): Promise<Float32Array> {
  const out = await runAsync(model.loss(input, { training: false, balance: [], perToken: true }));
  const { lossPerToken } = out;
  if (lossPerToken === null)
    throw new MoebiusError({ code: 'internal', message: 'internal: no loss per token' });
  try {
    return readHostSync(lossPerToken) as Float32Array;
  } finally {
    lossPerToken.dispose();
  }
}

function summarise(
  shard: TokenShard,
  plan: EvaluationPlan,
  { nats, seed }: { readonly nats: Float64Array; readonly seed: number },
): DocumentsResult {
  const byDocument = [...sizesByDocument(shard, plan.windows)].map(([document, { tokens, bytes }]) => {
    const loss = (nats[document] ?? 0) / tokens;
    const bits = (nats[document] ?? 0) / Math.LN2;
    return { document, tokens, bytes, bits, loss, bitsPerByte: bits / bytes };
  });
  const loss = nats.reduce((sum, value) => sum + value, 0) / plan.tokens;
  return {
    loss,
    perplexity: Math.exp(loss),
    bitsPerByte: (loss * plan.tokens) / Math.LN2 / plan.bytes,
    bitsPerByteError: standardErrorOf(byDocument, { seed }),
    evaluatedTokens: plan.tokens,
    evaluatedBytes: plan.bytes,
    documents: plan.documents,
    byDocument,
  };
}

interface Size {
  readonly tokens: number;
  readonly bytes: number;
}

/** Tokens and bytes that count, of each document; a part of one is measured only where bytes of tokens are known. */
function sizesByDocument(shard: TokenShard, windows: readonly EvaluationWindow[]): ReadonlyMap<number, Size> {
  const { tokenBytes } = shard;
  const sizes = new Map<number, Size>();
  for (const { start, skip, count, document } of windows) {
    const before = sizes.get(document) ?? { tokens: 0, bytes: 0 };
    let bytes = tokenBytes === null ? (shard.bytes[document] ?? 0) : before.bytes;
    for (const id of shard.tokens.subarray(start + skip + 1, start + skip + 1 + count)) {
      bytes += tokenBytes?.[id] ?? 0;
    }
    sizes.set(document, { tokens: before.tokens + count, bytes });
  }
  return sizes;
}

function assertStride(stride: number, length: number): void {
  if (Number.isInteger(stride) && stride >= 1 && stride <= length) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `stride: must be a whole number from 1 to the window's ${length} tokens, got ${stride} (half the window is usual)`,
    details: { stride, length },
  });
}
