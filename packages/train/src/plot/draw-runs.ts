/**
 * @file Curves of one or several runs as one picture: SVG, or HTML with the same SVG and a table.
 *
 * One run is drawn layer by layer; of several runs the mean over layers, so that runs are told apart by colour.
 */
import { MoebiusError } from '@moebius/core';

import { drawPanel } from './draw-panel.ts';
import type { Panel, PanelLine } from './draw-panel.ts';
import type { CurvePoint, LayerCurves, RunCurves } from './run-curves.ts';
import { coordinate, escapeText, shorten } from './svg-text.ts';

/** How a picture is made. */
export interface DrawRunsOptions {
  /** The horizontal axis. Default `step`; `tokens` compares runs with different batches. */
  readonly axis?: 'step' | 'tokens';
  /** `svg` (default), or an HTML page with it. */
  readonly format?: 'svg' | 'html';
  /** Above the picture. Default the names of the runs. */
  readonly title?: string;
}

/** Colours that people with colour blindness tell apart (Okabe and Ito), yellow left out; then dashes. */
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#444444'] as const;
const dashes = ['', '6 3', '2 2', '8 3 2 3'] as const;

const columns = 2;
const panel = { width: 500, height: 250 } as const;
const padding = 16;
const legendRow = 18;
const maximumNameLength = 60;

interface RunStyle {
  readonly colour: string;
  readonly dash: string;
}

/**
 * Draws runs. The same curves give the same bytes.
 *
 * @param runs - at least one, with at least one point
 * @throws `data` when there is nothing to draw
 * @example
 * ```ts
 * const run = parseRunCurves('{"step":1,"train/loss":7.5}\n{"step":2,"train/loss":7.1}\n', 'first');
 * const svg = drawRuns([run]);
 * ```
 */
export function drawRuns(runs: readonly RunCurves[], options: DrawRunsOptions = {}): string {
  const { axis = 'step', format = 'svg' } = options;
  const title = options.title ?? shorten(runs.map(({ name }) => name).join(', '), 84);
  const panels = panelsOf(runs, axis);
  if (panels.length === 0) {
    throw new MoebiusError({
      code: 'data',
      message: `plot: must have a step or an evaluation to draw, got none in ${runs.length} runs (train first)`,
      details: { runs: runs.map(({ name }) => name) },
    });
  }
  const svg = drawPicture(panels, { runs, axis, title });
  return format === 'svg' ? `${svg}\n` : page(svg, runs, title);
}

function styleOf(index: number): RunStyle {
  return {
    colour: colours[index % colours.length] ?? colours[0],
    dash: dashes[Math.floor(index / colours.length) % dashes.length] ?? '',
  };
}

function panelsOf(runs: readonly RunCurves[], axis: 'step' | 'tokens'): Panel[] {
  const place = (points: readonly CurvePoint[]): PanelLine['points'] =>
    points.map((point) => ({ x: point[axis], y: point.value }));
  const line = (points: readonly CurvePoint[], index: number, more: Partial<PanelLine> = {}): PanelLine => ({
    points: place(points),
    ...styleOf(index),
    hasDots: false,
    hasBand: false,
    ...more,
  });
  const each = (pick: (run: RunCurves) => readonly CurvePoint[], more?: Partial<PanelLine>): PanelLine[] =>
    runs.map((run, index) => line(pick(run), index, more));
  const experts = (key: 'imbalance' | 'entropy'): PanelLine[] =>
    runs.length === 1
      ? (runs[0]?.layers ?? []).map((layer, at, all) =>
          line(layer[key], 0, { colour: layerColour(at, all.length) }),
        )
      : each(({ layers }) => meanOverLayers(layers, key));
  const layers = describeLayers(runs);
  const panels: Panel[] = [
    {
      title: 'Training loss (nats per token)',
      lines: each(({ loss }) => loss, { hasBand: true }),
      levels: [],
    },
    {
      title: 'Held-out bits per byte',
      lines: each(({ bitsPerByte }) => bitsPerByte, { hasDots: true }),
      levels: levelsOf(runs),
    },
    { title: `Busiest expert / mean load${layers}`, lines: experts('imbalance'), levels: [], low: 1 },
    { title: `Entropy of expert use (1 = even)${layers}`, lines: experts('entropy'), levels: [] },
    {
      title: 'Tokens per second',
      lines: each(({ tokensPerSecond }) => tokensPerSecond, { hasBand: true }),
      levels: [],
      low: 0,
    },
    {
      title: 'MFU: share of the matmul rate',
      lines: each(({ mfu }) => mfu, { hasBand: true }),
      levels: [],
      low: 0,
    },
    {
      title: 'Gradient norm, before clipping',
      lines: each(({ gradientNorm }) => gradientNorm, { hasBand: true }),
      levels: [],
      low: 0,
    },
    { title: 'Learning rate', lines: each(({ learningRate }) => learningRate), levels: [], low: 0 },
  ];
  return panels
    .map((one) => ({ ...one, lines: one.lines.filter(({ points }) => points.length > 0) }))
    .filter(({ lines }) => lines.length > 0);
}

/** From blue (first layer) to orange (last). */
function layerColour(at: number, count: number): string {
  const share = count === 1 ? 0 : at / (count - 1);
  const [from, to] = [
    [0, 84, 168],
    [230, 140, 0],
  ] as const;
  const parts = from.map((part, index) => Math.round(part + share * ((to[index] ?? part) - part)));
  return `#${parts.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
}

function describeLayers(runs: readonly RunCurves[]): string {
  const count = runs[0]?.layers.length ?? 0;
  if (runs.length > 1) return ', mean of layers';
  return count > 1 ? ': layers blue to orange' : '';
}

function meanOverLayers(layers: readonly LayerCurves[], key: 'imbalance' | 'entropy'): CurvePoint[] {
  const sums = new Map<number, { tokens: number; sum: number; count: number }>();
  for (const layer of layers) {
    for (const { step, tokens, value } of layer[key]) {
      const before = sums.get(step) ?? { tokens, sum: 0, count: 0 };
      sums.set(step, { tokens, sum: before.sum + value, count: before.count + 1 });
    }
  }
  return [...sums]
    .map(([step, { tokens, sum, count }]) => ({ step, tokens, value: sum / count }))
    .toSorted((a, b) => a.step - b.step);
}

/** Names as people read them; others keep their own. */
const baselineNames: { readonly [name: string]: string } = {
  tokenBigram: 'Kneser-Ney bigram',
  tokenBigramSeen: 'Kneser-Ney bigram, seen tokens',
  tokenUnigram: 'token unigram',
  gzip: 'gzip -9',
};

/** Baselines of one run, or those that all runs share: another text would have others. */
function levelsOf(runs: readonly RunCurves[]): Panel['levels'] {
  const measured = runs.filter(({ bitsPerByte }) => bitsPerByte.length > 0);
  const shared = Object.entries(measured[0]?.baselines ?? {}).filter(([name, value]) =>
    measured.every(({ baselines }) => baselines[name] === value),
  );
  return shared.flatMap(([key, value]) => {
    const name = baselineNames[key];
    return name === undefined ? [] : [{ name, value }];
  });
}

interface Picture {
  readonly runs: readonly RunCurves[];
  readonly axis: 'step' | 'tokens';
  readonly title: string;
}

function drawPicture(panels: readonly Panel[], { runs, axis, title }: Picture): string {
  const end = Math.max(
    1,
    ...runs.flatMap(({ loss, bitsPerByte, learningRate, gradientNorm, tokensPerSecond }) =>
      [loss, bitsPerByte, learningRate, gradientNorm, tokensPerSecond].map((one) => one.at(-1)?.[axis] ?? 0),
    ),
  );
  const legendTop = 44;
  const legendRows = runs.length === 1 ? 0 : Math.ceil(runs.length / columns);
  const top = legendTop + legendRows * legendRow;
  const width = padding * 2 + columns * panel.width;
  const height = top + Math.ceil(panels.length / columns) * panel.height + padding;
  const name = axis === 'step' ? 'steps' : 'tokens trained on';
  const drawn = panels.flatMap((one, at) =>
    drawPanel(one, {
      left: padding + (at % columns) * panel.width,
      top: top + Math.floor(at / columns) * panel.height,
      ...panel,
      end,
      axis: name,
    }),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="11">`,
    `<title>${escapeText(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="${padding + 8}" y="28" font-size="17" font-weight="bold" fill="#111">${escapeText(title)}</text>`,
    ...(runs.length === 1 ? [] : runs.flatMap((run, index) => drawLegend(run, index, legendTop))),
    ...drawn,
    '</svg>',
  ].join('\n');
}

function drawLegend({ name }: RunCurves, index: number, top: number): string[] {
  const { colour, dash } = styleOf(index);
  const left = padding + 8 + (index % columns) * panel.width;
  const y = top + Math.floor(index / columns) * legendRow + 4;
  const dashed = dash === '' ? '' : ` stroke-dasharray="${dash}"`;
  return [
    `<line x1="${coordinate(left)}" x2="${coordinate(left + 28)}" y1="${coordinate(y)}" y2="${coordinate(y)}" stroke="${colour}" stroke-width="3"${dashed}/>`,
    `<text x="${coordinate(left + 36)}" y="${coordinate(y + 4)}" font-size="12" fill="#222">${escapeText(shorten(name, maximumNameLength))}</text>`,
  ];
}

function page(svg: string, runs: readonly RunCurves[], title: string): string {
  const last = (points: readonly CurvePoint[], digits: number): string =>
    points.at(-1)?.value.toFixed(digits) ?? '';
  const rows = runs.map(({ name, loss, bitsPerByte }) => {
    const end = loss.at(-1) ?? bitsPerByte.at(-1);
    const cells = [end?.step ?? '', end?.tokens ?? '', last(loss, 3), last(bitsPerByte, 4)];
    return `<tr><td>${escapeText(name)}</td>${cells.map((cell) => `<td class="n">${cell}</td>`).join('')}</tr>`;
  });
  return [
    '<!doctype html>',
    '<html lang="en">',
    `<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeText(title)}</title>`,
    '<style>body{margin:1.5rem;font-family:system-ui,sans-serif;color:#222}svg{max-width:100%;height:auto}',
    'table{border-collapse:collapse;margin-top:1rem}td,th{padding:.25rem .9rem;border-bottom:1px solid #ddd;text-align:left}.n{text-align:right;font-variant-numeric:tabular-nums}</style></head>',
    '<body>',
    svg,
    '<table><tr><th>run</th><th>steps</th><th>tokens</th><th>last loss</th><th>last held-out bits per byte</th></tr>',
    ...rows,
    '</table>',
    '</body>',
    '</html>',
    '',
  ].join('\n');
}
