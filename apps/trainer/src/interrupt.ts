/**
 * @file Ctrl-C: the first one asks to stop after the step in progress, the second one ends the process at once.
 */
import { exitCodes } from './exit-codes.ts';

/** A wish to stop. */
export interface Interrupt {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** Stops listening. */
  [Symbol.dispose](): void;
}

/** What {@link listenForInterrupt} listens to; `process` fits. */
export interface SignalSource {
  /** Registers a listener. */
  on(event: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
  /** Removes it. */
  off(event: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
  /** Ends the process. */
  exit(status: number): void;
}

/**
 * Listens for SIGINT and SIGTERM.
 *
 * @param source - the process
 * @param options - `onFirst`: told once, so that people learn what happens next
 */
export function listenForInterrupt(
  source: SignalSource,
  options: { readonly onFirst: () => void },
): Interrupt {
  const controller = new AbortController();
  const listener = (): void => {
    if (controller.signal.aborted) {
      source.exit(exitCodes.interrupted);
      return;
    }
    controller.abort();
    options.onFirst();
  };
  source.on('SIGINT', listener);
  source.on('SIGTERM', listener);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      source.off('SIGINT', listener);
      source.off('SIGTERM', listener);
    },
  };
}
