/** @file The command line's outside world, as a value: tests read what was written. */

/** Where output goes and what the environment says. */
export interface Console {
  out(text: string): void;
  error(text: string): void;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingFolder: string;
}
