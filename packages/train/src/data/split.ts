/**
 * @file Training and held-out documents. Which side a document falls on depends on the seed and its name only:
 * adding a document moves no other, and no document is on both sides.
 */
import { createHash } from 'node:crypto';

import { MoebiusError } from '@moebius/core';

import type { TextDocument } from './documents.ts';

/** Documents to train on and documents to measure on. */
export interface DocumentSplit {
  readonly training: readonly TextDocument[];
  readonly heldOut: readonly TextDocument[];
}

/** How to split. */
export interface SplitOptions {
  /** Share of documents that are held out, above 0 and below 1. */
  readonly heldOutFraction: number;
  /** Another seed holds out other documents. */
  readonly seed: number;
}

/**
 * Splits documents by the hash of `seed:name`. Each side gets at least one; a single document is cut at a line end.
 *
 * @throws `data` when there is nothing, or a single document of a single line
 */
export function splitDocuments(documents: readonly TextDocument[], options: SplitOptions): DocumentSplit {
  const { heldOutFraction, seed } = options;
  const [first] = documents;
  if (first === undefined)
    throw new MoebiusError({ code: 'data', message: 'data: must hold a document, got none' });
  if (documents.length === 1) return cutDocument(first, heldOutFraction);
  const ranked = documents
    .map((document) => ({ document, rank: hashFraction(`${seed}:${document.name}`) }))
    .toSorted((a, b) => a.rank - b.rank || (a.document.name < b.document.name ? -1 : 1));
  const below = ranked.filter(({ rank }) => rank < heldOutFraction).length;
  const count = Math.min(Math.max(below, 1), documents.length - 1);
  const chosen = new Set(ranked.slice(0, count).map(({ document }) => document));
  return {
    training: documents.filter((document) => !chosen.has(document)),
    heldOut: documents.filter((document) => chosen.has(document)),
  };
}

/** The end of a single document is held out, from the first line that starts in its last part. */
function cutDocument({ name, text }: TextDocument, heldOutFraction: number): DocumentSplit {
  const wanted = Math.floor(text.length * (1 - heldOutFraction));
  const after = text.indexOf('\n', wanted);
  const cut = (after >= 0 && text.slice(after).trim() !== '' ? after : text.lastIndexOf('\n', wanted)) + 1;
  const parts = [text.slice(0, cut), text.slice(cut)];
  if (cut === 0 || parts.some((part) => part.trim() === '')) {
    throw new MoebiusError({
      code: 'data',
      message: `${name}: must have several lines to be split into training and held-out text, got one of ${text.length} characters (add line breaks or files, or give held-out text of its own)`,
      details: { name, characters: text.length },
    });
  }
  return {
    training: [{ name: `${name}#training`, text: parts[0] ?? '' }],
    heldOut: [{ name: `${name}#held-out`, text: parts[1] ?? '' }],
  };
}

/** A number in [0, 1) from the first 48 bits of SHA-256. */
function hashFraction(key: string): number {
  return createHash('sha256').update(key).digest().readUIntBE(0, 6) / 2 ** 48;
}
