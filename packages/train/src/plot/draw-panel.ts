/** @file One panel of the picture: axes, bands, lines, levels. */
import { linearScale, tickLabels } from './axis-scale.ts';
import type { AxisScale } from './axis-scale.ts';
import { coordinate, escapeText } from './svg-text.ts';
import { thinCurve } from './thin-curve.ts';
import type { PlanePoint } from './thin-curve.ts';

/** A line of a panel. */
export interface PanelLine {
  readonly points: readonly PlanePoint[];
  readonly colour: string;
  /** SVG dash pattern; empty is solid. */
  readonly dash: string;
  /** Few points, each worth a dot. */
  readonly hasDots: boolean;
  /** Whether smallest and largest of each stretch are drawn behind the mean. */
  readonly hasBand: boolean;
}

/** A panel. */
export interface Panel {
  readonly title: string;
  readonly lines: readonly PanelLine[];
  /** Horizontal levels with a name. */
  readonly levels: readonly { readonly name: string; readonly value: number }[];
  /** A value that the axis must reach down to. */
  readonly low?: number;
}

/** Where a panel stands, and its horizontal axis. */
export interface PanelPlace {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  /** Largest x of all panels. */
  readonly end: number;
  /** Name of the horizontal axis. */
  readonly axis: string;
}

/** Points of a line: a picture has no more columns. */
const maximumPoints = 240;
const margin = { left: 62, right: 14, top: 30, bottom: 40 } as const;

interface Frame {
  readonly x: (value: number) => number;
  readonly y: (value: number) => number;
  readonly horizontal: AxisScale;
  readonly vertical: AxisScale;
  readonly right: number;
  readonly bottom: number;
}

/** Draws a panel as SVG elements, one a line. */
export function drawPanel(panel: Panel, place: PanelPlace): string[] {
  const thinned = panel.lines.map((line) => ({
    ...line,
    stretches: thinCurve(line.points, maximumPoints),
  }));
  const values = thinned.flatMap(({ stretches, hasBand }) => [
    ...stretches.map(({ y }) => y),
    ...(hasBand
      ? [
          ...withoutSpikes(stretches.map(({ high }) => high)),
          ...withoutSpikes(stretches.map(({ low }) => low)),
        ]
      : []),
  ]);
  const vertical = linearScale(
    [...values, ...panel.levels.map(({ value }) => value)],
    panel.low === undefined ? {} : { low: panel.low },
  );
  const frame = frameOf(place, vertical);
  const { x, y } = frame;
  const bands = thinned
    .filter(({ hasBand, points }) => hasBand && points.length > 1)
    .map(({ stretches, colour }) => {
      const upper = stretches.map((stretch) => `${coordinate(x(stretch.x))},${coordinate(y(stretch.high))}`);
      const lower = stretches
        .toReversed()
        .map((stretch) => `${coordinate(x(stretch.x))},${coordinate(y(stretch.low))}`);
      return `<polygon points="${[...upper, ...lower].join(' ')}" fill="${colour}" opacity="0.18"/>`;
    });
  const lines = thinned.flatMap(({ stretches, ...line }) => {
    const points = stretches.map((stretch) => `${coordinate(x(stretch.x))},${coordinate(y(stretch.y))}`);
    const dash = line.dash === '' ? '' : ` stroke-dasharray="${line.dash}"`;
    const dots =
      line.hasDots || points.length === 1
        ? stretches.map(
            (at) =>
              `<circle cx="${coordinate(x(at.x))}" cy="${coordinate(y(at.y))}" r="2.4" fill="${line.colour}"/>`,
          )
        : [];
    return [
      `<polyline points="${points.join(' ')}" fill="none" stroke="${line.colour}" stroke-width="1.6" stroke-linejoin="round"${dash}/>`,
      ...dots,
    ];
  });
  return [...drawAxes(panel, place, frame), ...bands, ...lines, ...drawLevels(panel, place, frame)];
}

/** The middle 96 %: a few spikes of a band are cut off at the frame, so that they do not flatten the curve. */
function withoutSpikes(values: readonly number[]): readonly number[] {
  const cut = Math.floor(values.length * 0.02);
  return values.toSorted((a, b) => a - b).slice(cut, values.length - cut);
}

function frameOf(place: PanelPlace, vertical: AxisScale): Frame {
  const horizontal = linearScale([0, place.end], { count: 8 });
  const left = place.left + margin.left;
  const right = place.left + place.width - margin.right;
  const top = place.top + margin.top;
  const bottom = place.top + place.height - margin.bottom;
  return {
    horizontal,
    vertical,
    right,
    bottom,
    // The axis ends where the runs end, not at the next round value.
    x: (value) => left + (value / place.end) * (right - left),
    y: (value) => bottom - Math.min(1, Math.max(0, vertical.at(value))) * (bottom - top),
  };
}

function drawAxes(panel: Panel, place: PanelPlace, frame: Frame): string[] {
  const { x, y, horizontal, vertical, right, bottom } = frame;
  const left = place.left + margin.left;
  const rowLabels = tickLabels(vertical.ticks);
  const rows = vertical.ticks.flatMap((tick, at) => [
    `<line x1="${coordinate(left)}" x2="${coordinate(right)}" y1="${coordinate(y(tick))}" y2="${coordinate(y(tick))}" stroke="#e4e4e4"/>`,
    `<text x="${coordinate(left - 7)}" y="${coordinate(y(tick) + 3.5)}" text-anchor="end" fill="#555">${rowLabels[at] ?? ''}</text>`,
  ]);
  const shown = horizontal.ticks.filter((tick) => tick <= place.end * (1 + 1e-9));
  const columnLabels = tickLabels(horizontal.ticks);
  const columns = shown.flatMap((tick, at) => [
    `<line x1="${coordinate(x(tick))}" x2="${coordinate(x(tick))}" y1="${coordinate(bottom)}" y2="${coordinate(bottom + 4)}" stroke="#999"/>`,
    `<text x="${coordinate(x(tick))}" y="${coordinate(bottom + 17)}" text-anchor="middle" fill="#555">${columnLabels[at] ?? ''}</text>`,
  ]);
  return [
    `<text x="${coordinate(left)}" y="${coordinate(place.top + 17)}" font-size="13" font-weight="bold" fill="#222">${escapeText(panel.title)}</text>`,
    ...rows,
    `<line x1="${coordinate(left)}" x2="${coordinate(right)}" y1="${coordinate(bottom)}" y2="${coordinate(bottom)}" stroke="#999"/>`,
    ...columns,
    `<text x="${coordinate((left + right) / 2)}" y="${coordinate(bottom + 32)}" text-anchor="middle" fill="#777">${escapeText(place.axis)}</text>`,
  ];
}

/** Levels whose names would overlap share a line of text. */
function drawLevels(panel: Panel, place: PanelPlace, { y, right }: Frame): string[] {
  const left = place.left + margin.left;
  const sorted = panel.levels.toSorted((a, b) => b.value - a.value);
  let lowest = -Infinity;
  return sorted.flatMap(({ name, value }) => {
    const at = y(value);
    const label = Math.max(at - 4, lowest + 12);
    lowest = label;
    return [
      `<line x1="${coordinate(left)}" x2="${coordinate(right)}" y1="${coordinate(at)}" y2="${coordinate(at)}" stroke="#888" stroke-dasharray="5 4"/>`,
      `<text x="${coordinate(right)}" y="${coordinate(label)}" text-anchor="end" fill="#555">${escapeText(name)} ${value.toFixed(2)}</text>`,
    ];
  });
}
