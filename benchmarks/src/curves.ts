/**
 * @file Commits the curves of a run: held-out bits per byte and training loss as a table and an SVG, beside the
 * baselines on the same text.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/curves.ts runs/reference "claim"`
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import { markdownTable, writeResult } from './measure.ts';

interface StepLine {
  readonly step: number;
  readonly 'train/loss': number;
  readonly 'train/tokens': number;
  readonly 'train/tokens_per_second': number;
  readonly 'train/step_ms': number;
}
interface EvaluationLine {
  readonly step: number;
  readonly 'eval/bits_per_byte': number;
  readonly 'eval/tokens': number;
}
interface BaselineLine {
  readonly 'eval/baselines': Record<string, number>;
}

const [run, claim = 'the held-out bits per byte of a run beside the baselines on the same text'] =
  process.argv.slice(2);
if (run === undefined) throw new Error('curves: must be given a run folder (runs/reference)');
const lines = readFileSync(join(run, 'metrics.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as object);
const steps = lines.filter((line): line is StepLine => 'train/loss' in line);
const evaluations = lines.filter((line): line is EvaluationLine => 'eval/bits_per_byte' in line);
const baselines =
  lines.find((line): line is BaselineLine => 'eval/baselines' in line)?.['eval/baselines'] ?? {};
const tokensAt = new Map(steps.map((line) => [line.step, line['train/tokens']]));
const points = evaluations.map((line) => ({
  tokens: tokensAt.get(line.step) ?? 0,
  bits: line['eval/bits_per_byte'],
  step: line.step,
  counted: line['eval/tokens'],
}));
const last = points.at(-1);
if (last === undefined) throw new Error(`curves: ${run} must hold an evaluation, got none`);

const name = basename(run);
const { output: _, ...config } = JSON.parse(readFileSync(join(run, 'run.json'), 'utf8')) as Record<
  string,
  unknown
>;
const svg = `curve-${name}.svg`;
writeFileSync(new URL(`../results/${svg}`, import.meta.url), drawCurve());
const seconds = steps.reduce((sum, line) => sum + line['train/step_ms'], 0) / 1000;
const body = [
  `![held-out bits per byte](${svg})`,
  '',
  `${steps.length} steps, ${last.tokens.toLocaleString('en')} tokens, ${(seconds / 60).toFixed(1)} minutes in training steps (${Math.round(last.tokens / seconds)} tokens/s). ` +
    `The last row is measured on the whole held-out text (${last.counted.toLocaleString('en')} tokens).`,
  '',
  markdownTable(
    ['method', 'held-out bits per byte'],
    [
      [`**this model**`, last.bits.toFixed(3)],
      ...Object.entries(baselines).map(([method, bits]) => [method, bits.toFixed(3)]),
    ],
  ),
  '',
  markdownTable(
    ['step', 'tokens', 'held-out bits per byte'],
    points.map((point) => [point.step, point.tokens, point.bits.toFixed(4)]),
  ),
  '',
  '```json',
  JSON.stringify(config, undefined, 1),
  '```',
].join('\n');
console.log(
  writeResult({
    topic: `curve-${name}`,
    claim,
    versions: {},
    body,
    data: { points, baselines, loss: thinned() },
  }),
);

/** Mean training loss of at most 200 stretches. */
function thinned(): { tokens: number; loss: number }[] {
  const stretch = Math.max(1, Math.ceil(steps.length / 200));
  const result: { tokens: number; loss: number }[] = [];
  for (let from = 0; from < steps.length; from += stretch) {
    const part = steps.slice(from, from + stretch);
    const loss = part.reduce((sum, line) => sum + line['train/loss'], 0) / part.length;
    result.push({ tokens: part.at(-1)?.['train/tokens'] ?? 0, loss: Math.round(loss * 1e4) / 1e4 });
  }
  return result;
}

function drawCurve(): string {
  const [width, height, margin] = [720, 400, 56];
  const shown = Object.entries(baselines).filter(([method]) => method.startsWith('token'));
  const all = [...points.map(({ bits }) => bits), ...shown.map(([, bits]) => bits)];
  const [low, high] = [Math.min(...all) - 0.1, Math.max(...all) + 0.1];
  const end = Math.max(...points.map(({ tokens }) => tokens));
  const x = (tokens: number): string => (margin + (tokens / end) * (width - 2 * margin)).toFixed(1);
  const y = (bits: number): string =>
    (height - margin - ((bits - low) / (high - low)) * (height - 2 * margin)).toFixed(1);
  const path = points
    .map(({ tokens, bits }, at) => `${at === 0 ? 'M' : 'L'}${x(tokens)},${y(bits)}`)
    .join(' ');
  const lines = shown.map(
    ([method, bits]) =>
      `<line x1="${margin}" x2="${width - margin}" y1="${y(bits)}" y2="${y(bits)}" stroke="#999" stroke-dasharray="4 4"/><text x="${width - margin}" y="${Number(y(bits)) - 4}" text-anchor="end" fill="#666">${method} ${bits.toFixed(2)}</text>`,
  );
  const ticks = [0, 0.25, 0.5, 0.75, 1].map(
    (part) =>
      `<text x="${x(end * part)}" y="${height - margin + 20}" text-anchor="middle">${((end * part) / 1e6).toFixed(2)} M</text>`,
  );
  const levels = [0, 0.25, 0.5, 0.75, 1].map((part) => low + part * (high - low));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    `<text x="${margin}" y="24" font-size="14">${name}: held-out bits per byte over tokens seen</text>`,
    ...levels.map(
      (bits) => `<text x="${margin - 8}" y="${y(bits)}" text-anchor="end">${bits.toFixed(2)}</text>`,
    ),
    ...ticks,
    ...lines,
    `<path d="${path}" fill="none" stroke="#1f77b4" stroke-width="2"/>`,
    ...points.map(({ tokens, bits }) => `<circle cx="${x(tokens)}" cy="${y(bits)}" r="3" fill="#1f77b4"/>`),
    '</svg>',
    '',
  ].join('\n');
}
