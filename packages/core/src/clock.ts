/**
 * @file Ports for what a library must not take from its surroundings: time and the wish to stop.
 */
import { MoebiusError } from './errors.ts';

/** Where time comes from. An app passes `{ nowMs: () => performance.now() }`. */
export interface Clock {
  /** Milliseconds since any fixed moment; never goes back. */
  nowMs(): number;
}

/** A clock that moves only when told to. */
export interface ManualClock extends Clock {
  /** Moves time forward by `ms`. */
  advance(ms: number): void;
}

/**
 * A clock for tests and replays.
 *
 * @param startMs - what it shows at first
 */
export function createManualClock(startMs: number = 0): ManualClock {
  let now = startMs;
  return {
    nowMs: () => now,
    advance(ms: number): void {
      if (!(ms >= 0)) {
        throw new MoebiusError({
          code: 'configuration',
          message: `clock: must advance by at least 0 ms, got ${ms}`,
        });
      }
      now += ms;
    },
  };
}

/**
 * Stops work that was asked to stop.
 *
 * @param signal - may be absent: then nothing happens
 * @param subject - what stops, for the message
 * @throws `aborted` with the signal's reason as cause.
 */
export function throwIfAborted(signal: AbortSignal | undefined, subject: string): void {
  if (signal === undefined || !signal.aborted) return;
  throw new MoebiusError({
    code: 'aborted',
    message: `${subject}: must not be aborted to finish, got an abort request`,
    cause: signal.reason,
  });
}
