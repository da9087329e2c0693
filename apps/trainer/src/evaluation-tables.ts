/** @file Tables of `moebius eval`: one model, several side by side, document by document. */
import { formatBytes, formatCount } from './terminal/format.ts';
import { formatTable } from './terminal/table.ts';
import type { Difference, Measurement } from './work/eval.ts';

/** More documents than this are shown as the worst and the best ones. */
const shownWhole = 20;
const shownEach = 8;

const baselineNames: { readonly [name: string]: string } = {
  byteBigram: 'byte bigram',
  gzip: 'gzip -9',
  tokenUnigram: 'token unigram',
  tokenBigram: 'Kneser-Ney token bigram',
};

/** One model. */
export function formatMeasurement(result: Measurement): string[] {
  const { bitsPerByte, bitsPerByteError, loss, perplexity, baselines } = result;
  return formatTable(
    [
      ['bits per byte', withError(bitsPerByte, bitsPerByteError)],
      ['loss (nats per token)', loss.toFixed(4)],
      ['perplexity', perplexity.toFixed(2)],
      ...Object.entries(baselines ?? {}).map(([name, bits]) => [
        `${baselineNames[name] ?? name} (bits per byte)`,
        bits.toFixed(4),
      ]),
    ],
    { indent: 0 },
  );
}

/** Several models; differences are to the first one. */
export function formatComparison(
  rows: readonly { readonly result: Measurement; readonly difference: Difference | undefined }[],
): string[] {
  const head = ['model', 'bits per byte', 'difference', 'loss', 'perplexity', 'tokens', 'tok/s'];
  return formatTable(
    [
      head,
      ...rows.map(({ result, difference }) => [
        result.model,
        withError(result.bitsPerByte, result.bitsPerByteError),
        difference === undefined ? '' : withError(difference.bitsPerByte, difference.error),
        result.loss.toFixed(4),
        result.perplexity.toFixed(2),
        formatCount(result.evaluatedTokens),
        formatCount(Math.round(result.evaluatedTokens / result.seconds)),
      ]),
    ],
    { indent: 0 },
  );
}

/** One document's line. */
export interface DocumentLine {
  readonly name: string;
  readonly bitsPerByte: number;
  readonly loss: number;
  readonly tokens: number;
  readonly bytes: number;
}

/** Documents from worst to best; of many only the ends. */
export function formatDocuments(documents: readonly DocumentLine[]): string[] {
  const sorted = documents.toSorted((left, right) => right.bitsPerByte - left.bitsPerByte);
  const row = ({ name, bitsPerByte, loss, tokens, bytes }: DocumentLine): string[] => [
    name,
    bitsPerByte.toFixed(4),
    loss.toFixed(4),
    formatCount(tokens),
    formatBytes(bytes),
  ];
  const head = ['document', 'bits per byte', 'loss', 'tokens', 'text'];
  if (sorted.length <= shownWhole) return formatTable([head, ...sorted.map(row)], { indent: 0 });
  const hidden = sorted.length - 2 * shownEach;
  return formatTable(
    [
      head,
      ...sorted.slice(0, shownEach).map(row),
      [`… ${hidden} more (all of them with --json)`],
      ...sorted.slice(-shownEach).map(row),
    ],
    { indent: 0 },
  );
}

function withError(value: number, error: number | null): string {
  return error === null ? value.toFixed(4) : `${value.toFixed(4)} ± ${error.toFixed(4)}`;
}
