/**
 * @file Lines that a person types, in order, none lost: what is typed or pasted while a text is made waits its turn. Lines
 * pasted together are one entry, when the terminal marks pastes (bracketed paste).
 */
import type { Interface } from 'node:readline';

/** Lines as they are asked for. */
export interface TypedLines {
  /** The next entry; null when the input has ended or `signal` fires. */
  next(signal: AbortSignal): Promise<string | null>;
}

/** A key, as `keypress` events of a stream tell it. */
interface Key {
  readonly name?: string;
}

/** Asks a terminal to mark pastes, and not to. */
export const markPastes = { on: '\u001b[?2004h', off: '\u001b[?2004l' } as const;

/**
 * Collects the lines of an interface.
 *
 * @param lines - a `readline` interface; its `line` and `close` events are listened to
 * @param stdin - where its keys come from
 */
export function collectTypedLines(lines: Interface, stdin: NodeJS.ReadableStream): TypedLines {
  const waiting: string[] = [];
  const pasted: string[] = [];
  let isPasting = false;
  let hasEnded = false;
  let wake: () => void = () => {};
  stdin.on('keypress', (_: unknown, key: Key | undefined) => {
    if (key?.name === 'paste-start') isPasting = true;
    if (key?.name === 'paste-end') isPasting = false;
  });
  lines.on('line', (line) => {
    pasted.push(line);
    if (isPasting) return;
    waiting.push(pasted.splice(0).join('\n'));
    wake();
  });
  lines.on('close', () => {
    hasEnded = true;
    wake();
  });
  return {
    async next(signal) {
      while (waiting.length === 0 && !hasEnded && !signal.aborted) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          signal.addEventListener('abort', () => resolve(), { once: true });
        });
      }
      return signal.aborted ? null : (waiting.shift() ?? null);
    },
  };
}
