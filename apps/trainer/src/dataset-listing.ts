/** @file What `moebius data info` shows people: sizes, frequent tokens, and what they should look at. */
import type { DatasetReport, FaultyDocument } from '@moebius/train';

import { formatBytes, formatCount } from './terminal/format.ts';
import { formatTable } from './terminal/table.ts';

/** Names listed in one warning. */
const listed = 5;

/** Sizes and tokens. */
export function formatDataset({ training, heldOut, frequent, ...report }: DatasetReport): string[] {
  const share = (count: number, all: number): string => `${((100 * count) / Math.max(1, all)).toFixed(1)} %`;
  const column = (side: typeof training): string[] => [
    String(side.documents),
    formatBytes(side.bytes),
    formatCount(side.tokens),
    side.bytesPerToken.toFixed(2),
    share(side.bytes, training.bytes + heldOut.bytes),
    `${side.longest.name} (${formatCount(side.longest.tokens)})`,
  ];
  const names = ['documents', 'text', 'tokens', 'bytes per token', 'share of the text', 'longest (tokens)'];
  const left = column(training);
  const right = column(heldOut);
  const total = frequent.reduce((sum, { count }) => sum + count, 0);
  return [
    ...formatTable(
      [['', 'training', 'held out'], ...names.map((name, at) => [name, left[at] ?? '', right[at] ?? ''])],
      { indent: 0 },
    ),
    '',
    `vocabulary ${report.vocabularySize}, of which the training text uses ${report.usedTokens}`,
    `most frequent tokens (${share(total, training.tokens)} of the text):`,
    `  ${frequent.map(({ text, count }) => `${JSON.stringify(text)} ${share(count, training.tokens)}`).join('  ')}`,
  ];
}

/** What people should look at, one sentence each; empty when there is nothing. */
export function warningsOf({ repeated, leaked, shared, faulty }: DatasetReport): string[] {
  return [
    ...sentence(
      leaked,
      ({ name, sameAs }) => `${name} (= ${sameAs})`,
      (count) => `${count} held-out documents are trained on word for word: figures on them mean nothing`,
    ),
    ...sentence(
      shared,
      ({ name, share }) => `${name} (${Math.round(100 * share)} %)`,
      (count) => `${count} held-out documents stand in part in the training text`,
    ),
    ...sentence(
      repeated,
      ({ name, sameAs }) => `${name} (= ${sameAs})`,
      (count) => `${count} documents occur twice in the training text`,
    ),
    ...sentence(
      faulty,
      (document) => `${document.name} (${describeFaults(document)})`,
      (count) => `${count} documents show signs of a bad encoding`,
    ),
  ];
}

function sentence<T>(
  items: readonly T[],
  describe: (item: T) => string,
  begin: (count: number) => string,
): string[] {
  if (items.length === 0) return [];
  const more = items.length > listed ? `, and ${items.length - listed} more (all of them with --json)` : '';
  return [`${begin(items.length)}: ${items.slice(0, listed).map(describe).join(', ')}${more}`];
}

const faultNames: { readonly [fault: string]: string } = {
  replacementCharacters: 'U+FFFD',
  controlCharacters: 'control characters',
  byteOrderMarks: 'byte-order marks inside',
  loneSurrogates: 'lone surrogates',
  doubleEncoded: 'UTF-8 encoded twice',
  windowsLineEnds: 'CRLF line ends',
};

function describeFaults(document: FaultyDocument): string {
  return Object.entries(faultNames)
    .map(([key, name]) => ({ name, count: document[key as keyof typeof document] as number }))
    .filter(({ count }) => count > 0)
    .map(({ name, count }) => `${count} ${name}`)
    .join(', ');
}
