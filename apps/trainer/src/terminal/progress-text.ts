/**
 * @file What a progress line says, and what it leaves out where there is no room.
 */
import { cutToWidth, displayWidth, oneLine } from './display-width.ts';
import { formatCount, formatDuration } from './format.ts';

/** Where a run is. */
export interface Progress {
  /** Name of the run. */
  readonly name: string;
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
  /** Share of the machine's matmul rate that the model reaches; undefined when the rate is not known. */
  readonly mfu: number | undefined;
  /** One glyph per sparse layer: how uneven its experts are used. */
  readonly balance: string;
  /** Norm of the gradients before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
}

/** A part of the line. */
export type ProgressPart = keyof typeof describe;

/** Parts as the line shows them, left to right. */
export const shownOrder: readonly ProgressPart[] = [
  'name',
  'bar',
  'place',
  'loss',
  'pace',
  'left',
  'mfu',
  'experts',
  'gradient',
  'rate',
];

/** Parts in the order in which they are left out, the first one first, when the line has too few columns. */
export const droppedOrder: readonly ProgressPart[] = [
  'name',
  'rate',
  'bar',
  'gradient',
  'mfu',
  'experts',
  'pace',
  'left',
  'loss',
];

const barWidth = 20;
const nameWidth = 24;
const gap = '  ';

/** Each part as text; empty when the run has no such part. */
const describe = {
  name: ({ name }: Progress): string => cutToWidth(oneLine(name), nameWidth),
  bar: ({ fraction }: Progress): string => {
    const done = Math.round(clamp(fraction) * barWidth);
    return '━'.repeat(done) + '╌'.repeat(barWidth - done);
  },
  place: ({ step, steps, fraction }: Progress): string =>
    steps === undefined
      ? `${step} (${Math.floor(100 * clamp(fraction))} %)`
      : `${String(step).padStart(String(steps).length)}/${steps}`,
  loss: ({ loss }: Progress): string => `loss ${loss.toFixed(3)}`,
  pace: ({ tokensPerSecond }: Progress): string => `${formatPace(tokensPerSecond)} tok/s`,
  left: ({ secondsLeft }: Progress): string => `${formatDuration(secondsLeft)} left`,
  mfu: ({ mfu }: Progress): string =>
    mfu === undefined || !Number.isFinite(mfu) ? '' : `MFU ${(100 * mfu).toFixed(0)} %`,
  experts: ({ balance }: Progress): string => (balance === '' ? '' : `experts ${balance}`),
  gradient: ({ gradientNorm }: Progress): string => `grad ${formatFigure(gradientNorm)}`,
  rate: ({ learningRate }: Progress): string => `lr ${formatRate(learningRate)}`,
} as const;

/** The line without name and bar, whole: what logs get. */
export function progressText(progress: Progress): string {
  return join(partsOf(progress).filter(({ part }) => part !== 'name' && part !== 'bar'));
}

/**
 * The line in at most so many columns: parts are left out until it fits, and the place alone is cut.
 *
 * @param columns - at least 1
 */
export function fitProgress(progress: Progress, columns: number): string {
  let parts = partsOf(progress);
  for (const dropped of droppedOrder) {
    if (widthOf(parts) <= columns) return join(parts);
    parts = parts.filter(({ part }) => part !== dropped);
  }
  return cutToWidth(join(parts), columns);
}

interface Part {
  readonly part: ProgressPart;
  readonly text: string;
}

function widthOf(parts: readonly Part[]): number {
  return parts.reduce((sum, { text }) => sum + gap.length + displayWidth(text), -gap.length);
}

function partsOf(progress: Progress): Part[] {
  return shownOrder
    .map((part) => ({ part, text: describe[part](progress) }))
    .filter(({ text }) => text !== '');
}

function join(parts: readonly Part[]): string {
  return parts.map(({ text }) => text).join(gap);
}

function clamp(fraction: number): number {
  return Number.isNaN(fraction) ? 0 : Math.min(1, Math.max(0, fraction));
}

function formatPace(tokensPerSecond: number): string {
  return Number.isFinite(tokensPerSecond) ? formatCount(Math.round(tokensPerSecond)) : '?';
}

/** Three figures, without an exponent where that is short. */
function formatFigure(value: number): string {
  if (!Number.isFinite(value) || value === 0) return String(value);
  return Math.abs(value) < 1e-2 || Math.abs(value) >= 1e4 ? value.toExponential(1) : value.toPrecision(3);
}

function formatRate(value: number): string {
  return value === 0 || !Number.isFinite(value) ? String(value) : value.toExponential(1);
}
