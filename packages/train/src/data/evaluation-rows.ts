/**
 * @file Held-out documents as rows: windows that do not overlap, each document on its own. Every token of a document
 * is a target exactly once; its first has the end-of-text id as context, and end-of-text itself is never a target.
 */
import type { TokenRows } from './batch-sampler.ts';
import type { TokenShard } from './token-shard.ts';

/** How to cut and batch. */
export interface EvaluationRowsOptions {
  /** Tokens of a row, S. */
  readonly length: number;
  /** Rows of a batch, B; the last batch may have fewer. */
  readonly rows: number;
  /** Stop before a document that would exceed this many tokens; at least one document is used. Default all. */
  readonly maximumTokens?: number | undefined;
}

/** Rows to evaluate, and what they cover. */
export interface EvaluationPlan {
  /** Start of each row in the shard and how many of its targets count. */
  readonly windows: readonly { readonly start: number; readonly count: number }[];
  /** Documents covered, from the first. */
  readonly documents: number;
  /** Targets counted. */
  readonly tokens: number;
  /** UTF-8 bytes of the documents. */
  readonly bytes: number;
}

/** Chooses documents and cuts them into windows. */
export function planEvaluation(shard: TokenShard, options: EvaluationRowsOptions): EvaluationPlan {
  const { length, maximumTokens = Infinity } = options;
  const windows: { start: number; count: number }[] = [];
  let documents = 0;
  let tokens = 0;
  let bytes = 0;
  for (const [index, documentBytes] of shard.bytes.entries()) {
    const begin = shard.starts[index] ?? 0;
    const size = (shard.starts[index + 1] ?? 0) - begin - 1;
    if (documents > 0 && tokens + size > maximumTokens) break;
    for (let at = 0; at < size; at += length)
      windows.push({ start: begin + at, count: Math.min(length, size - at) });
    documents += 1;
    tokens += size;
    bytes += documentBytes;
  }
  return { windows, documents, tokens, bytes };
}

/** The rows of a plan, batch by batch. Positions behind a document's end hold end-of-text and target -1. */
export function* evaluationRows(
  shard: TokenShard,
  plan: EvaluationPlan,
  options: EvaluationRowsOptions,
): Generator<TokenRows> {
  const { length, rows } = options;
  const padding = shard.tokens[0] ?? 0;
  for (let first = 0; first < plan.windows.length; first += rows) {
    const batch = plan.windows.slice(first, first + rows);
    const ids = new Int32Array(batch.length * length).fill(padding);
    const targets = new Int32Array(batch.length * length).fill(-1);
    for (const [row, { start, count }] of batch.entries()) {
      ids.set(shard.tokens.subarray(start, start + count), row * length);
      targets.set(shard.tokens.subarray(start + 1, start + 1 + count), row * length);
    }
    yield { ids, targets, rows: batch.length, length };
  }
}
