/**
 * @file The terminal as a port: where lines go, whether it redraws, whether it has colours, whether a program reads it.
 *
 * Results go to stdout. With `--json` stdout carries JSON only, one object a line, and people's lines go nowhere.
 * Warnings and errors go to stderr.
 */

import { displayWidth } from './display-width.ts';

/** Where nobody says how wide lines may be. */
const defaultWidth = 100;

/** What the commands write to. */
export interface Terminal {
  /** Whether a person sees it: lines may redraw themselves. */
  readonly isInteractive: boolean;
  /** Whether stdout carries JSON. */
  readonly isJson: boolean;
  /** Columns now: a window may be resized at any time. */
  readonly width: number;
  /** A line for people; dropped with `--json`. */
  line(text?: string): void;
  /**
   * Text for people that goes on in the same line; dropped with `--json`. Made by a model, it may hold anything: control
   * characters, with which it could drive the terminal, become U+FFFD.
   */
  text(piece: string): void;
  /** A line about the work, on stderr, so that a command's result can be piped; dropped with `--json`. */
  note(text: string): void;
  /**
   * Replaces the text of the line the cursor is on; only where {@link isInteractive}. When the window has become
   * narrower than that text, a new line is begun instead: the old one may have been wrapped by then.
   */
  redraw(text: string): void;
  /** An object for programs; dropped without `--json`. */
  json(value: unknown): void;
  /** A line on stderr, always. */
  warn(text: string): void;
  /** Emphasis, when there are colours. */
  strong(text: string): string;
  /** Less emphasis, when there are colours. */
  faint(text: string): string;
}

/** What {@link createTerminal} is made from; `process` fits. */
export interface TerminalSource {
  /** Standard output. */
  readonly stdout: { readonly isTTY?: boolean; readonly columns?: number; write(text: string): unknown };
  /** Standard error. */
  readonly stderr: { readonly isTTY?: boolean; write(text: string): unknown };
  /** Environment: NO_COLOR, FORCE_COLOR, TERM and CI are looked at. */
  readonly env: { readonly [name: string]: string | undefined };
}

/** A terminal over a process's streams. */
export function createTerminal(source: TerminalSource, options: { readonly json?: boolean } = {}): Terminal {
  const { json: isJson = false } = options;
  const { stdout, stderr, env } = source;
  const isInteractive = stdout.isTTY === true && env['TERM'] !== 'dumb' && !isSet(env['CI']) && !isJson;
  const forced = env['FORCE_COLOR'];
  const isForced = forced === undefined || forced === '' ? isInteractive : isSet(forced);
  // Whatever its value (no-color.org); an empty one counts as absent.
  const isPlain = (env['NO_COLOR'] ?? '') !== '';
  const hasColours = !isPlain && isForced;
  const styled = (code: number, text: string): string =>
    hasColours ? `\u001b[${code}m${text}\u001b[0m` : text;
  const width = (): number => {
    const { columns = 0 } = stdout;
    return columns > 0 ? columns : defaultWidth;
  };
  let drawnWidth = 0;
  const redraw = (text: string): void => {
    stdout.write(`${drawnWidth >= width() ? '\n' : '\r'}${text}\u001b[K`);
    drawnWidth = displayWidth(text);
  };
  return {
    isInteractive,
    isJson,
    get width() {
      return width();
    },
    line: (text = '') => {
      drawnWidth = 0;
      if (!isJson) stdout.write(`${text}\n`);
    },
    text: (piece) => void (isJson || stdout.write(withoutControls(piece))),
    note: (text) => void (isJson || stderr.write(`${text}\n`)),
    redraw: (text) => (isInteractive ? redraw(text) : undefined),
    json: (value) => void (isJson && stdout.write(`${JSON.stringify(value)}\n`)),
    warn: (text) => void stderr.write(`${text}\n`),
    strong: (text) => styled(1, text),
    faint: (text) => styled(2, text),
  };
}

/** Present and not empty; `0` and `false` switch FORCE_COLOR and CI off. */
function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0' && value !== 'false';
}

/** Every control character but tab and line end becomes U+FFFD. */
function withoutControls(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (character) =>
    character === '\n' || character === '\t' ? character : '\uFFFD',
  );
}
