/** @file The errors of the set-up: always code `engine`, always with a remedy. */
import { MoebiusError, type Serializable } from '@moebius/core';

/** Where in the set-up something went wrong. */
export type SetupStage =
  | 'platform'
  | 'sources'
  | 'cache'
  | 'lock'
  | 'download'
  | 'verify'
  | 'extract'
  | 'compiler'
  | 'compile'
  | 'load';

/**
 * Makes the error of one set-up stage.
 *
 * @param stage - where it happened; in `details.stage`
 * @param message - *subject: expectation, got value (remedy)*
 * @param cause - the error that led here
 * @param details - numbers and names of the message
 */
export function setupError(
  stage: SetupStage,
  message: string,
  cause?: unknown,
  details: { readonly [key: string]: Serializable } = {},
): MoebiusError {
  return new MoebiusError({ code: 'engine', message, details: { stage, ...details }, cause });
}

/**
 * The message of anything that was thrown, in one line.
 *
 * @param error - anything
 */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replaceAll(/\s+/g, ' ').trim();
}
