/** @file The texts that come with Moebius, as help lists them; a test holds the list to the library's. */

/** One line per text. */
export const corpusHelp: string = `  sotu       State of the Union addresses, 1790 to 2021: 233 documents, 10.7 MB
  moby-dick  Moby Dick by Herman Melville, by chapter: 139 documents, 1.2 MB`;
