/**
 * @file Progress of a run: one line that redraws itself on a terminal, plain lines now and then elsewhere.
 *
 * A training step blocks the event loop, so there is no timer: the line is drawn when a step ends, as wide as the
 * terminal is then.
 */
import { fitProgress, progressText } from './progress-text.ts';
import type { Progress } from './progress-text.ts';
import type { Terminal } from './terminal.ts';

/** A progress display. */
export interface ProgressLine {
  /** Shows where the run is. */
  update(progress: Progress): void;
  /** Prints a line that stays. */
  note(text: string): void;
  /** Leaves the newest state on the screen. */
  end(): void;
}

/** How often a display shows something. */
export interface ProgressOptions {
  /** The time. */
  readonly nowMs: () => number;
  /** Steps between plain lines. Without it time decides: every ten seconds, later on every hundredth of the time so far, at most a minute. */
  readonly everySteps?: number | undefined;
}

/** A terminal shows about ten states a second; more is work for nothing. */
const redrawMs = 100;
const plainMs = { least: 10_000, most: 60_000, share: 0.01 } as const;

/**
 * Makes a display.
 *
 * @param terminal - where to
 * @param options - the time, and how often plain lines appear
 */
export function createProgressLine(terminal: Terminal, options: ProgressOptions): ProgressLine {
  return terminal.isInteractive ? redrawing(terminal, options.nowMs) : plain(terminal, options);
}

function redrawing(terminal: Terminal, nowMs: () => number): ProgressLine {
  let newest: Progress | undefined;
  let shown: Progress | undefined;
  let shownAt = -Infinity;
  const draw = (): void => {
    if (newest === undefined || newest === shown) return;
    shown = newest;
    shownAt = nowMs();
    // A line that fills the last column would wrap on some terminals.
    terminal.redraw(fitProgress(newest, Math.max(1, terminal.width - 1)));
  };
  return {
    update(progress) {
      newest = progress;
      if (nowMs() - shownAt >= redrawMs) draw();
    },
    note(text) {
      terminal.redraw('');
      terminal.line(text);
      shown = undefined;
      draw();
    },
    end() {
      draw();
      if (shown !== undefined) terminal.line();
      newest = shown = undefined;
    },
  };
}

function plain(terminal: Terminal, { nowMs, everySteps }: ProgressOptions): ProgressLine {
  let newest: Progress | undefined;
  let printed: Progress | undefined;
  let printedAt = -Infinity;
  const begun = nowMs();
  const print = (): void => {
    if (newest === undefined || newest === printed) return;
    printed = newest;
    printedAt = nowMs();
    terminal.line(`step ${progressText(newest)}`);
  };
  const isDue = ({ step }: Progress): boolean => {
    if (everySteps !== undefined) return step % everySteps === 0;
    const now = nowMs();
    const gapMs = Math.min(plainMs.most, Math.max(plainMs.least, plainMs.share * (now - begun)));
    return now - printedAt >= gapMs;
  };
  return {
    update(progress) {
      newest = progress;
      if (isDue(progress)) print();
    },
    note(text) {
      print();
      terminal.line(text);
    },
    end: print,
  };
}
