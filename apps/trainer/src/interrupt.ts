/**
 * @file Signals while a run is going on: the first one asks to stop after the step in progress, a second Ctrl-C or
 * SIGTERM ends the process at once. Before a run begins nothing can be lost, so nobody listens and a signal ends it.
 */
import { exitCodes } from './exit-codes.ts';

/** Signals that stop a run. SIGPIPE is how we learn that nobody reads our output any more. */
export type StopSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP' | 'SIGPIPE';

/** A wish to stop. */
export interface Interrupt {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** Exit status that tells which signal it was: 128 and its number. */
  readonly status: number;
  /** Stops listening. */
  [Symbol.dispose](): void;
}

/** What {@link listenForInterrupt} listens to; `process` fits. */
export interface SignalSource {
  /** Registers a listener. */
  on(event: StopSignal, listener: () => void): unknown;
  /** Removes it; a signal without a listener does what the system does with it. */
  off(event: StopSignal, listener: () => void): unknown;
  /** Ends the process. */
  exit(status: number): void;
}

const statusOf: { readonly [name in StopSignal]: number } = {
  SIGINT: exitCodes.interrupted,
  SIGTERM: exitCodes.terminated,
  SIGHUP: exitCodes.hungUp,
  SIGPIPE: exitCodes.outputClosed,
};
/** A terminal that is closed, or a reader that has gone, is not somebody who insists. */
const insisting: readonly StopSignal[] = ['SIGINT', 'SIGTERM'];

/** All of them: what would cost a run its work. */
export const stopSignals: readonly StopSignal[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'];

/**
 * Listens for signals.
 *
 * @param source - the process
 * @param options - `onFirst`: told once, so that people learn what happens next; `names`: default SIGINT and SIGTERM
 */
export function listenForInterrupt(
  source: SignalSource,
  options: { readonly onFirst: () => void; readonly names?: readonly StopSignal[] },
): Interrupt {
  const { onFirst, names = insisting } = options;
  const controller = new AbortController();
  let status: number = exitCodes.interrupted;
  const hear = (name: StopSignal): void => {
    if (controller.signal.aborted) {
      if (insisting.includes(name)) source.exit(statusOf[name]);
      return;
    }
    status = statusOf[name];
    controller.abort();
    onFirst();
    // A step blocks the event loop, and with it every listener: from the next turn on (one that came meanwhile is
    // heard in this one) the system itself ends the process.
    setImmediate(() => insisting.forEach(forget));
  };
  const listeners = new Map(names.map((name) => [name, () => hear(name)]));
  const forget = (name: StopSignal): void => {
    source.off(name, listeners.get(name) ?? (() => undefined));
  };
  for (const [name, listener] of listeners) source.on(name, listener);
  return {
    signal: controller.signal,
    get status() {
      return status;
    },
    [Symbol.dispose]: () => names.forEach(forget),
  };
}
