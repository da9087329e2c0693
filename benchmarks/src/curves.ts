/**
 * @file Commits the curves of a run: held-out bits per byte and training loss as a table and an SVG, beside the
 * baselines on the same text.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/curves.ts runs/reference "claim"`
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import { drawRuns, parseRunCurves } from '@moebius/train';

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
const text = readFileSync(join(run, 'metrics.jsonl'), 'utf8');
const lines = text
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
writeFileSync(
  new URL(`../results/${svg}`, import.meta.url),
  drawRuns([parseRunCurves(text, name)], { axis: 'tokens', format: 'svg' }),
);
const seconds = steps.reduce((sum, line) => sum + line['train/step_ms'], 0) / 1000;
const body = [
  `![the run's curves](${svg})`,
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
