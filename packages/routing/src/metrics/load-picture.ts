/**
 * @file Loads before and after a capacity policy, as lines of plain text and as SVG, from a plan alone.
 *
 * An expert's bar has what it kept of the dropless plan, what was added to it, and above its load what was dropped. Pictures are functions of the plan:
 * the same plan gives the same bytes.
 *
 * Letters: `E` experts.
 */
import { MoebiusError } from '@moebius/core';

import type { DispatchPlan } from '../dispatch-plan.ts';
import { countPrimary } from './routing-totals.kernel.ts';

/** One expert's pairs. */
interface LoadBar {
  readonly expert: number;
  /** In the dropless plan, and still there. */
  readonly kept: number;
  /** In the dropless plan only. */
  readonly dropped: number;
  /** New. */
  readonly added: number;
}

function barsOf(plan: DispatchPlan): LoadBar[] {
  const kept = countPrimary(plan);
  const { load, capacity } = plan.stats;
  return Array.from(load, (now, expert) => {
    const own = kept[expert] ?? 0;
    return { expert, kept: own, dropped: (capacity?.preLoad[expert] ?? own) - own, added: now - own };
  });
}

/** How {@link drawLoadText} draws. */
export interface LoadTextOptions {
  /** Columns of the terminal; at least 20. Default 80. */
  readonly width?: number;
  /** Letters that every terminal has: `#`, `.`, `+`. Default false: `█`, `░`, `▓`. */
  readonly ascii?: boolean;
}

/**
 * Loads as lines of text: no colours, no control characters, no line longer than `width`.
 *
 * @param plan - with or without `stats.capacity`
 * @param options - width and letters
 * @returns lines that end in a newline
 * @throws `configuration` for a width below 20
 * @example
 * ```ts
 * const plan = planTopK(Int32Array.of(1, 0, 1, 2), { tokens: 2, experts: 3, topK: 2 });
 * drawLoadText(plan, { width: 40 });
 * ```
 */
export function drawLoadText(plan: DispatchPlan, options: LoadTextOptions = {}): string {
  const { width = 80, ascii = false } = options;
  if (!(width >= 20)) {
    throw new MoebiusError({
      code: 'configuration',
      message: `drawLoadText.width: must be at least 20, got ${width} (widen the terminal, or draw an SVG)`,
      details: { width },
    });
  }
  const [full, hollow, new_] = ascii ? ['#', '.', '+'] : ['█', '░', '▓'];
  const bars = barsOf(plan);
  const longest = Math.max(1, ...bars.map(({ kept, dropped, added }) => kept + dropped + added));
  const digits = String(Math.max(0, bars.length - 1)).length;
  const numbers = bars.map(numbersOf);
  const room = Math.floor(width) - digits - 2 - Math.max(0, ...numbers.map((text) => text.length));
  const lines = bars.map(({ expert, kept, dropped, added }, at) => {
    const name = String(expert).padStart(digits);
    if (room < 4) return `${name} ${numbers[at]}`.slice(0, Math.floor(width));
    const edges = [kept, kept + added, kept + added + dropped].map((end) =>
      Math.round((end * room) / longest),
    );
    const [first = 0, second = 0, third = 0] = edges;
    const bar = full.repeat(first) + new_.repeat(second - first) + hollow.repeat(third - second);
    return `${name} ${bar.padEnd(room)} ${numbers[at]}`.trimEnd();
  });
  return `${lines.join('\n')}\n`;
}

function numbersOf({ kept, dropped, added }: LoadBar): string {
  return `${kept}${dropped > 0 ? ` -${dropped}` : ''}${added > 0 ? ` +${added}` : ''}`;
}

/** How {@link drawLoadSvg} draws. */
export interface LoadSvgOptions {
  /** Above the picture; any text. Default `Load of experts`. */
  readonly title?: string;
  /** Pixels. Default 640. */
  readonly width?: number;
  /** Pixels. Default 240. */
  readonly height?: number;
}

/** Okabe and Ito: people with colour blindness tell them apart; the dropped part is hollow, so it is told apart in grey too. */
const colours = { kept: '#0072b2', dropped: '#d55e00', added: '#009e73' } as const;
const margin = { top: 44, right: 12, bottom: 24, left: 44 } as const;
const maximumTitle = 200;

/**
 * Loads as an SVG document: one bar an expert, dropped pairs hollow, the cap a dashed line where every expert has the same. It refers to nothing
 * outside itself and holds no script.
 *
 * @param plan - with or without `stats.capacity`
 * @param options - title and size
 * @throws `configuration` for sizes that leave no room
 */
export function drawLoadSvg(plan: DispatchPlan, options: LoadSvgOptions = {}): string {
  const { title = 'Load of experts', width = 640, height = 240 } = options;
  if (!(width >= 160 && height >= 120 && width <= 10_000 && height <= 10_000)) {
    throw new MoebiusError({
      code: 'configuration',
      message: `drawLoadSvg: width and height must be from 160 and 120 to 10000, got ${width} and ${height} (choose another size)`,
      details: { width, height },
    });
  }
  const bars = barsOf(plan);
  const area = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  const tallest = Math.max(1, ...bars.map(({ kept, dropped, added }) => kept + dropped + added));
  const cap = capOf(plan, tallest);
  const top = Math.max(tallest, cap ?? 0);
  const column = area.width / Math.max(1, bars.length);
  const scale = { column, perPair: area.height / top, base: margin.top + area.height };
  const name = escapeXml(title.slice(0, maximumTitle));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="sans-serif" font-size="11">`,
    `<title>${name}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="${margin.left}" y="18" font-size="13">${name}</text>`,
    ...legend(),
    `<text x="${margin.left - 6}" y="${margin.top + 4}" text-anchor="end">${top}</text>`,
    `<text x="${margin.left - 6}" y="${scale.base}" text-anchor="end">0</text>`,
    `<line x1="${margin.left}" y1="${scale.base}" x2="${width - margin.right}" y2="${scale.base}" stroke="#444444"/>`,
    ...bars.flatMap((bar) => drawBar(bar, scale)),
    ...(cap === null ? [] : [drawCap(cap, width - margin.right, scale)]),
    ...bars
      .filter(({ expert }) => expert % Math.ceil(24 / column) === 0)
      .map(({ expert }) => drawName(expert, scale)),
    '</svg>',
    '',
  ].join('\n');
}

interface Scale {
  readonly column: number;
  readonly perPair: number;
  /** y of 0. */
  readonly base: number;
}

/** The cap of every expert; null where cells have caps of their own, or where it is far above every bar. */
function capOf({ stats }: DispatchPlan, tallest: number): number | null {
  const [cap, ...others] = stats.capacity?.limit ?? [];
  return cap === undefined || others.length > 0 || cap > 2 * tallest ? null : cap;
}

function legend(): string[] {
  const names = { kept: 'kept', added: 'added', dropped: 'dropped' } as const;
  return Object.entries(names).flatMap(([part, name], at) => {
    const x = margin.left + 72 * at;
    return [
      `<rect x="${x}" y="26" width="10" height="10" ${paint(part as keyof typeof colours)}/>`,
      `<text x="${x + 14}" y="35">${name}</text>`,
    ];
  });
}

function paint(part: keyof typeof colours): string {
  return part === 'dropped' ? `fill="none" stroke="${colours.dropped}"` : `fill="${colours[part]}"`;
}

function drawBar({ expert, kept, dropped, added }: LoadBar, { column, perPair, base }: Scale): string[] {
  const x = margin.left + (expert + 0.1) * column;
  let below = 0;
  return Object.entries({ kept, added, dropped }).flatMap(([part, count]) => {
    if (count === 0) return [];
    below += count;
    const y = base - below * perPair;
    return [
      `<rect x="${pixel(x)}" y="${pixel(y)}" width="${pixel(0.8 * column)}" height="${pixel(count * perPair)}" ${paint(part as keyof typeof colours)}><title>expert ${expert}: ${count} ${part}</title></rect>`,
    ];
  });
}

function drawCap(cap: number, right: number, { perPair, base }: Scale): string {
  const y = pixel(base - cap * perPair);
  return `<line x1="${margin.left}" y1="${y}" x2="${pixel(right)}" y2="${y}" stroke="#444444" stroke-dasharray="3 2"><title>cap ${cap}</title></line>`;
}

function drawName(expert: number, { column, base }: Scale): string {
  return `<text x="${pixel(margin.left + (expert + 0.5) * column)}" y="${base + 14}" text-anchor="middle">${expert}</text>`;
}

function pixel(value: number): string {
  return String(Number(value.toFixed(2)));
}

/** Text that XML takes as text: markup is escaped, characters that XML does not know are replaced. */
function escapeXml(text: string): string {
  const known = Array.from(text, (character) => {
    const code = character.codePointAt(0) ?? 0;
    const isUnknown = code < 0x20 || (code >= 0xd800 && code <= 0xdfff) || code === 0xfffe || code === 0xffff;
    return isUnknown ? '\uFFFD' : character;
  }).join('');
  return known
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
