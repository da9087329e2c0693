/** @file What the exit status of `moebius` means. `moebius --help` and the README print this table. */

/** Exit statuses by name. */
export interface ExitCodes {
  /** Everything asked for was done. */
  readonly ok: 0;
  /** Something unexpected: a fault of ours, please report it. */
  readonly unexpected: 1;
  /** The command line or the configuration is wrong; nothing was started. */
  readonly usage: 2;
  /** A file or text is missing, unreadable or not what it should be. */
  readonly data: 3;
  /** The engine cannot be used: see `moebius doctor`. */
  readonly engine: 4;
  /** The numbers broke: loss or gradients are no longer finite. */
  readonly numerics: 5;
  /** Stopped because its terminal was closed (128 + SIGHUP); the run is saved and can be resumed. */
  readonly hungUp: 129;
  /** Stopped by Ctrl-C (128 + SIGINT); after the first one the run is saved and can be resumed. */
  readonly interrupted: 130;
  /** Stopped because nobody reads its output any more (128 + SIGPIPE); the run is saved and can be resumed. */
  readonly outputClosed: 141;
  /** Stopped by SIGTERM (128 + SIGTERM); after the first one the run is saved and can be resumed. */
  readonly terminated: 143;
}

/** Exit statuses by name. */
export const exitCodes: ExitCodes = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  data: 3,
  engine: 4,
  numerics: 5,
  hungUp: 129,
  interrupted: 130,
  outputClosed: 141,
  terminated: 143,
};

/** What each status means, in one line. */
export const exitMeanings: readonly { readonly status: number; readonly meaning: string }[] = [
  { status: exitCodes.ok, meaning: 'done' },
  { status: exitCodes.unexpected, meaning: 'unexpected error (a fault of ours)' },
  { status: exitCodes.usage, meaning: 'wrong flag, subcommand or configuration; nothing was started' },
  { status: exitCodes.data, meaning: 'a file or text is missing, unreadable or not what it should be' },
  { status: exitCodes.engine, meaning: 'the engine cannot be used (see: moebius doctor)' },
  { status: exitCodes.numerics, meaning: 'loss or gradients are no longer finite' },
  {
    status: exitCodes.hungUp,
    meaning: 'stopped because its terminal was closed; the run is saved and resumable',
  },
  {
    status: exitCodes.interrupted,
    meaning: 'stopped by Ctrl-C; after the first one the run is saved and resumable',
  },
  {
    status: exitCodes.outputClosed,
    meaning: 'stopped because nobody reads its output; the run is saved and resumable',
  },
  {
    status: exitCodes.terminated,
    meaning: 'stopped by SIGTERM; after the first one the run is saved and resumable',
  },
];

/** The table that help prints. */
export const exitCodeHelp: string = [
  'Exit status:',
  ...exitMeanings.map(({ status, meaning }) => `  ${String(status).padEnd(3)}  ${meaning}`),
].join('\n');
