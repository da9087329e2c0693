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
  /** About this many tokens, in windows spread evenly over all documents. Default all. */
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

/** Cuts documents into windows: all of them, or a sample that is spread evenly and is the same every time. */
export function planEvaluation(shard: TokenShard, options: EvaluationRowsOptions): EvaluationPlan {
  const { maximumTokens = Infinity } = options;
  const windows = cutWindows(shard, options.length);
  const tokens = countTargets(windows);
  if (tokens <= maximumTokens) {
    const bytes = shard.bytes.reduce((sum, count) => sum + count, 0);
    return { windows, documents: shard.bytes.length, tokens, bytes };
  }
  return shard.tokenBytes === null
    ? takeDocuments(shard, windows, maximumTokens)
    : spreadWindows(shard, windows, { maximumTokens, tokenBytes: shard.tokenBytes });
}

interface Window {
  readonly start: number;
  readonly count: number;
  readonly document: number;
}

function cutWindows(shard: TokenShard, length: number): Window[] {
  const windows: Window[] = [];
  for (let document = 0; document < shard.bytes.length; document++) {
    const begin = shard.starts[document] ?? 0;
    const size = (shard.starts[document + 1] ?? 0) - begin - 1;
    for (let at = 0; at < size; at += length) {
      windows.push({ start: begin + at, count: Math.min(length, size - at), document });
    }
  }
  return windows;
}

function countTargets(windows: readonly Window[]): number {
  return windows.reduce((sum, { count }) => sum + count, 0);
}

/** Every k-th window; bytes are those of its targets. */
function spreadWindows(
  shard: TokenShard,
  windows: readonly Window[],
  { maximumTokens, tokenBytes }: { readonly maximumTokens: number; readonly tokenBytes: Uint16Array },
): EvaluationPlan {
  const wanted = Math.max(1, Math.floor((maximumTokens * windows.length) / countTargets(windows)));
  const chosen = Array.from({ length: wanted }, (_, index) =>
    Math.floor(((index + 0.5) * windows.length) / wanted),
  );
  const sample = chosen.flatMap((index) => windows[index] ?? []);
  let bytes = 0;
  for (const { start, count } of sample) {
    for (const id of shard.tokens.subarray(start + 1, start + 1 + count)) bytes += tokenBytes[id] ?? 0;
  }
  const documents = new Set(sample.map(({ document }) => document)).size;
  return { windows: sample, documents, tokens: countTargets(sample), bytes };
}

/** Whole documents from the first, at least one: where the bytes of a part are not known. */
function takeDocuments(shard: TokenShard, windows: readonly Window[], maximumTokens: number): EvaluationPlan {
  let documents = 1;
  while ((shard.starts[documents + 1] ?? Infinity) - documents - 1 <= maximumTokens) documents += 1;
  const chosen = windows.filter(({ document }) => document < documents);
  const bytes = shard.bytes.subarray(0, documents).reduce((sum, count) => sum + count, 0);
  return { windows: chosen, documents, tokens: countTargets(chosen), bytes };
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
