/**
 * @file How large a trace may be. A trace file is hostile input: whoever sent it decides every number in it.
 */

/** Named limits of traces, each with its reason. */
export const traceLimits: {
  readonly pairs: number;
  readonly lineLength: number;
  readonly lines: number;
  readonly aboutEntries: number;
  readonly aboutLength: number;
} = Object.freeze({
  /** Pairs of all layers together: 20 bytes a pair in memory make 1 GB of this. */
  pairs: 50_000_000,
  /** Characters of one line, parsed at once: room for one layer of 262,144 tokens with 8 experts each. */
  lineLength: 64 * 1024 * 1024,
  /** Lines of a file: a short line costs more to keep than to write. */
  lines: 1_000_000,
  /** Facts in `about`: it is a title, not a database. */
  aboutEntries: 64,
  /** Characters of one of them. */
  aboutLength: 4096,
});
