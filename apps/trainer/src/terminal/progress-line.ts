/**
 * @file Progress of a run: one line that redraws itself on a terminal, plain lines now and then elsewhere.
 *
 * A training step blocks the event loop, so there is no timer: the line is drawn when a step ends.
 */
import { formatCount, formatDuration } from './format.ts';
import type { Terminal } from './terminal.ts';

/** Where a run is. */
export interface Progress {
  /** Steps done. */
  readonly step: number;
  /** Steps of the whole run; undefined when time decides. */
  readonly steps: number | undefined;
  /** Share of the run that is done. */
  readonly fraction: number;
  /** Mean cross-entropy of the newest steps, nats. */
  readonly loss: number;
  /** Tokens trained on per second, newest steps. */
  readonly tokensPerSecond: number;
  /** Seconds until the run ends, `NaN` when nobody knows yet. */
  readonly secondsLeft: number;
  /** One glyph per layer: how uneven its experts are used. */
  readonly balance: string;
}

/** A progress display. */
export interface ProgressLine {
  /** Shows where the run is. */
  update(progress: Progress): void;
  /** Prints a line that stays. */
  note(text: string): void;
  /** Leaves the newest state on the screen. */
  end(): void;
}

const barWidth = 20;
/** A terminal shows about ten states a second; more is work for nothing. */
const redrawMs = 100;

/**
 * Makes a display.
 *
 * @param terminal - where to
 * @param options - `everySeconds`: how often a plain line appears where nothing redraws (default 10); `nowMs`: the time
 */
export function createProgressLine(
  terminal: Terminal,
  options: { readonly everySeconds?: number; readonly nowMs: () => number },
): ProgressLine {
  const { everySeconds = 10, nowMs } = options;
  return terminal.isInteractive ? redrawing(terminal, nowMs) : plain(terminal, nowMs, everySeconds * 1000);
}

function redrawing(terminal: Terminal, nowMs: () => number): ProgressLine {
  let shown = '';
  let newest = '';
  let shownAt = -Infinity;
  const draw = (): void => {
    if (newest === shown) return;
    shown = newest;
    shownAt = nowMs();
    terminal.redraw(newest.slice(0, terminal.width - 1));
  };
  return {
    update(progress) {
      newest = `${bar(progress)} ${describe(progress)}`;
      if (nowMs() - shownAt >= redrawMs) draw();
    },
    note(text) {
      terminal.redraw('');
      terminal.line(text);
      shown = '';
      draw();
    },
    end() {
      draw();
      if (shown !== '') terminal.line();
      newest = shown = '';
    },
  };
}

function plain(terminal: Terminal, nowMs: () => number, everyMs: number): ProgressLine {
  let newest: Progress | undefined;
  let printed: Progress | undefined;
  let printedAt = -Infinity;
  const print = (): void => {
    if (newest === undefined || newest === printed) return;
    printed = newest;
    printedAt = nowMs();
    terminal.line(`step ${describe(newest)}`);
  };
  return {
    update(progress) {
      newest = progress;
      if (nowMs() - printedAt >= everyMs) print();
    },
    note(text) {
      print();
      terminal.line(text);
    },
    end: print,
  };
}

function bar({ fraction }: Progress): string {
  const done = Math.round(Math.min(1, Math.max(0, fraction)) * barWidth);
  return '━'.repeat(done) + '╌'.repeat(barWidth - done);
}

function describe(progress: Progress): string {
  const { step, steps, fraction, loss, tokensPerSecond, secondsLeft, balance } = progress;
  const left = Number.isFinite(secondsLeft) ? formatDuration(secondsLeft) : '?';
  const place =
    steps === undefined
      ? `${step} (${Math.round(100 * fraction)} %)`
      : `${String(step).padStart(String(steps).length)}/${steps}`;
  return `${place}  loss ${loss.toFixed(3)}  ${formatCount(Math.round(tokensPerSecond))} tok/s  ${left} left  experts ${balance}`;
}
