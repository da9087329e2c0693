/**
 * @file Held-out documents as rows: windows, each document on its own. Every token of a document is a target exactly
 * once; its first has the end-of-text id as context, and end-of-text itself is never a target. Windows do not overlap,
 * unless a stride below their length is asked for: then the first part of a later window is context only.
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
  /** Tokens from one window to the next, 1 to `length`. Default `length`: windows do not overlap. */
  readonly stride?: number | undefined;
}

/** One row to evaluate. */
export interface EvaluationWindow {
  /** Where its context begins in the shard. */
  readonly start: number;
  /** Targets that are context only, because an earlier window counted them. */
  readonly skip: number;
  /** Targets that count. */
  readonly count: number;
  /** Index of its document. */
  readonly document: number;
}

/** Rows to evaluate, and what they cover. */
export interface EvaluationPlan {
  /** The rows, in order of the text. */
  readonly windows: readonly EvaluationWindow[];
  /** Documents covered, from the first. */
  readonly documents: number;
  /** Targets counted. */
  readonly tokens: number;
  /** UTF-8 bytes of the documents. */
  readonly bytes: number;
}

/** Cuts documents into windows: all of them, or a sample that is spread evenly and is the same every time. */
export function planEvaluation(shard: TokenShard, options: EvaluationRowsOptions): EvaluationPlan {
  const { maximumTokens = Infinity, length, stride = length } = options;
  const windows = cutWindows(shard, length, stride);
  const tokens = countTargets(windows);
  if (tokens <= maximumTokens) {
    const bytes = shard.bytes.reduce((sum, count) => sum + count, 0);
    return { windows, documents: shard.bytes.length, tokens, bytes };
  }
  return shard.tokenBytes === null
    ? takeDocuments(shard, windows, maximumTokens)
    : spreadWindows(shard, windows, { maximumTokens, tokenBytes: shard.tokenBytes });
}

/** The first window of a document counts all of its targets, each later one the `stride` behind those counted. */
function cutWindows(shard: TokenShard, length: number, stride: number): EvaluationWindow[] {
  const windows: EvaluationWindow[] = [];
  for (let document = 0; document < shard.bytes.length; document++) {
    const begin = shard.starts[document] ?? 0;
    const size = (shard.starts[document + 1] ?? 0) - begin - 1;
    let counted = 0;
    while (counted < size) {
      const count = Math.min(counted === 0 ? length : stride, size - counted);
      const skip = counted === 0 ? 0 : length - stride;
      windows.push({ start: begin + counted - skip, skip, count, document });
      counted += count;
    }
  }
  return windows;
}

function countTargets(windows: readonly EvaluationWindow[]): number {
  return windows.reduce((sum, { count }) => sum + count, 0);
}

/** Every k-th window; bytes are those of its targets. */
function spreadWindows(
  shard: TokenShard,
  windows: readonly EvaluationWindow[],
  { maximumTokens, tokenBytes }: { readonly maximumTokens: number; readonly tokenBytes: Uint16Array },
): EvaluationPlan {
  const wanted = Math.max(1, Math.floor((maximumTokens * windows.length) / countTargets(windows)));
  const chosen = Array.from({ length: wanted }, (_, index) =>
    Math.floor(((index + 0.5) * windows.length) / wanted),
  );
  const sample = chosen.flatMap((index) => windows[index] ?? []);
  let bytes = 0;
  for (const { start, skip, count } of sample) {
    const first = start + 1 + skip;
    for (const id of shard.tokens.subarray(first, first + count)) bytes += tokenBytes[id] ?? 0;
  }
  const documents = new Set(sample.map(({ document }) => document)).size;
  return { windows: sample, documents, tokens: countTargets(sample), bytes };
}

/** Whole documents from the first, at least one: where the bytes of a part are not known. */
function takeDocuments(
  shard: TokenShard,
  windows: readonly EvaluationWindow[],
  maximumTokens: number,
): EvaluationPlan {
  let documents = 1;
  while ((shard.starts[documents + 1] ?? Infinity) - documents - 1 <= maximumTokens) documents += 1;
  const chosen = windows.filter(({ document }) => document < documents);
  const bytes = shard.bytes.subarray(0, documents).reduce((sum, count) => sum + count, 0);
  return { windows: chosen, documents, tokens: countTargets(chosen), bytes };
}

/** Rows of held-out text. */
export interface EvaluationRows extends TokenRows {
  /** Uint8Array `[B·S]`: 0 behind the end of a document. */
  readonly mask: Uint8Array;
}

/** The rows of a plan, batch by batch. Positions behind a document's end hold end-of-text and target -1. */
export function* evaluationRows(
  shard: TokenShard,
  plan: EvaluationPlan,
  options: EvaluationRowsOptions,
): Generator<EvaluationRows> {
  const { length, rows } = options;
  const padding = shard.tokens[0] ?? 0;
  for (let first = 0; first < plan.windows.length; first += rows) {
    const batch = plan.windows.slice(first, first + rows);
    const ids = new Int32Array(batch.length * length).fill(padding);
    const targets = new Int32Array(batch.length * length).fill(-1);
    const mask = new Uint8Array(batch.length * length);
    for (const [row, { start, skip, count }] of batch.entries()) {
      const end = start + skip + count;
      ids.set(shard.tokens.subarray(start, end), row * length);
      mask.fill(1, row * length, row * length + end - start);
      targets.set(shard.tokens.subarray(start + skip + 1, end + 1), row * length + skip);
    }
    yield { ids, targets, mask, rows: batch.length, length };
  }
}
