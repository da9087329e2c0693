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
  /** Stopped by Ctrl-C (128 + SIGINT); after the first one the run is saved and can be resumed. */
  readonly interrupted: 130;
}

/** Exit statuses by name. */
export const exitCodes: ExitCodes = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  data: 3,
  engine: 4,
  numerics: 5,
  interrupted: 130,
};

/** The table that help prints. */
export const exitCodeHelp: string = `Exit status:
  0    done
  1    unexpected error (a fault of ours)
  2    wrong flag, subcommand or configuration; nothing was started
  3    a file or text is missing, unreadable or not what it should be
  4    the engine cannot be used (see: moebius doctor)
  5    loss or gradients are no longer finite
  130  stopped by Ctrl-C; after the first one the run is saved and resumable`;
