/**
 * @file Ends a text at a stop string, which may be spread over several pieces.
 *
 * The stop string that is complete first ends the text; of several that are complete at the same character, the
 * longest. So the result does not depend on how the text is cut into pieces. Text that could be the beginning of a
 * stop string is held back until it is clear what it is: no part of a stop string is ever given out.
 */
import { MoebiusError } from '@moebius/core';

/** Receives a text in pieces and gives what comes before the first stop string. */
export interface StopFilter {
  /** Whether a stop string has come; from then on everything is dropped. */
  readonly stopped: boolean;
  /** The text that is clear now; often empty. */
  push(piece: string): string;
  /** What was held back, at the end of a text that no stop string ended. */
  flush(): string;
}

/**
 * A filter for one text.
 *
 * @param stops - none, or strings of at least one character
 * @throws `configuration` naming every empty one
 */
export function createStopFilter(stops: readonly string[]): StopFilter {
  assertStops(stops);
  let held = '';
  let stopped = false;
  return {
    get stopped(): boolean {
      return stopped;
    },
    push(piece) {
      if (stopped) return '';
      const text = held + piece;
      const start = startOfStop(text, stops);
      stopped = start >= 0;
      const end = stopped ? start : text.length - longestBeginning(text, stops);
      held = stopped ? '' : text.slice(end);
      return text.slice(0, end);
    },
    flush() {
      const rest = held;
      held = '';
      return rest;
    },
  };
}

/** Where the stop string begins that is complete first; -1 when there is none. */
function startOfStop(text: string, stops: readonly string[]): number {
  let start = -1;
  let end = Infinity;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    if (at < 0) continue;
    const isFirst = at + stop.length < end;
    if (isFirst || (at + stop.length === end && at < start)) start = at;
    if (isFirst) end = at + stop.length;
  }
  return start;
}

/** How many characters at the end of `text` a stop string could begin with. */
function longestBeginning(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length -= 1) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}

function assertStops(stops: readonly string[]): void {
  const faults = stops.flatMap((stop, at) =>
    stop === '' ? [`stop[${at}]: must have at least one character, got "" (leave it out)`] : [],
  );
  if (faults.length === 0) return;
  throw new MoebiusError({ code: 'configuration', message: faults.join('; '), details: { faults } });
}
