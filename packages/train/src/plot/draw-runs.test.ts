import { describe, expect, it } from 'vitest';

import { drawRuns } from './draw-runs.ts';
import { parseRunCurves } from './run-curves.ts';
import type { RunCurves } from './run-curves.ts';

function metrics(steps: number, start = 7): string {
  const lines = Array.from({ length: steps }, (_, at) => ({
    step: at + 1,
    'train/loss': start / (1 + at / 10),
    'train/tokens': 64 * (at + 1),
    'train/tokens_per_second': 1000 + (at % 3),
    'train/mfu': 0.5 + (at % 3) / 100,
    'train/learning_rate': 1e-3,
    'train/gradient_norm': 1,
    'routing/layers': [
      { layer: 0, load: [3, 1], imbalance: 1.5, entropy: 0.8, idle: 0 },
      { layer: 1, load: [2, 2], imbalance: 1, entropy: 1, idle: 0 },
    ],
  }));
  const end = [
    { step: steps, 'eval/bits_per_byte': 2.25 },
    { step: steps, 'eval/baselines': { tokenBigram: 1.5, gzip: 2.5 } },
  ];
  return [...lines, ...end].map((line) => `${JSON.stringify(line)}\n`).join('');
}

function run(name: string, steps = 30): RunCurves {
  return parseRunCurves(metrics(steps), name);
}

describe('parseRunCurves', () => {
  it('reads every curve, and gives an evaluation the tokens of the step before it', () => {
    const curves = run('a', 3);
    expect(curves.loss.map(({ step, tokens }) => [step, tokens])).toEqual([
      [1, 64],
      [2, 128],
      [3, 192],
    ]);
    expect(curves.bitsPerByte).toEqual([{ step: 3, tokens: 192, value: 2.25 }]);
    expect(curves.layers.map(({ layer, imbalance }) => [layer, imbalance.at(-1)?.value])).toEqual([
      [0, 1.5],
      [1, 1],
    ]);
    expect(curves.mfu.map(({ value }) => value)).toEqual([0.5, 0.51, 0.52]);
    expect(curves.baselines).toEqual({ tokenBigram: 1.5, gzip: 2.5 });
    expect(curves.skippedLines).toBe(0);
  });
  it('counts and leaves out what is no record, a half-written last line included', () => {
    const hostile = ['null', '[1]', '7', '{"step":-1}', '{"step":"2"}', '\u0000', '{"step":4,"train/lo'];
    const curves = parseRunCurves(`${metrics(3)}${hostile.join('\n')}`, 'a');
    expect(curves.skippedLines).toBe(hostile.length);
    expect({ ...curves, skippedLines: 0 }).toEqual(run('a', 3));
  });
  it('leaves out values that are no finite number', () => {
    const text =
      '{"step":1,"train/loss":"7"}\n{"step":2,"train/loss":null}\n{"step":3,"routing/layers":[null,5]}';
    const curves = parseRunCurves(text, 'a');
    expect([curves.loss, curves.layers, curves.skippedLines]).toEqual([[], [], 0]);
  });
  it('takes the last of several records of a step, and puts steps in order', () => {
    const line = (step: number, loss: number): string => JSON.stringify({ step, 'train/loss': loss });
    const curves = parseRunCurves([line(2, 5), line(1, 9), line(2, 4)].join('\n'), 'a');
    expect(curves.loss.map(({ step, value }) => [step, value])).toEqual([
      [1, 9],
      [2, 4],
    ]);
  });
});

describe('drawRuns', () => {
  it('draws every subject of one run, the layers apart, beside the baselines', () => {
    const svg = drawRuns([run('demo')]);
    for (const title of [
      'Training loss',
      'Held-out bits',
      'Tokens per second',
      'MFU: share of the matmul rate',
      'Gradient norm',
      'Learning rate',
    ]) {
      expect(svg).toContain(`>${title}`);
    }
    // Six single curves, and two layers in each of the two panels on experts.
    expect(svg.match(/<polyline/g)).toHaveLength(6 + 2 * 2);
    expect(svg).toContain('>Kneser-Ney bigram 1.50<');
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });
  it('gives several runs a colour and a line of the legend each', () => {
    const svg = drawRuns([run('first'), run('second')]);
    expect(svg.match(/<polyline/g)).toHaveLength(2 * 8);
    expect(svg).toContain('>first</text>');
    expect(svg).toContain('>second</text>');
    const colours = new Set(
      [...svg.matchAll(/<polyline[^>]* stroke="([^"]+)"/g)].map(([, colour]) => colour),
    );
    expect(colours.size).toBe(2);
  });
  it.each(['svg', 'html'] as const)('gives the same bytes for the same runs as %s', (format) => {
    expect(drawRuns([run('a'), run('b')], { format })).toBe(drawRuns([run('a'), run('b')], { format }));
  });
  it.each(['svg', 'html'] as const)('escapes names in %s, and loads nothing from elsewhere', (format) => {
    const picture = drawRuns([run('<script>&"\u0007'), run('b')], { format, title: "<i>'" });
    expect(picture).not.toMatch(/<script|<i>/);
    expect(picture).not.toContain('\u0007');
    expect(picture).toContain('&lt;script&gt;&amp;&quot;\uFFFD');
    expect(picture).toContain('&lt;i&gt;&#39;');
    expect(picture).not.toMatch(/(href|src)=|url\(|@import/);
  });
  it('puts a point where its step and value are', () => {
    const text = [0, 50, 100].map((step) => JSON.stringify({ step, 'train/loss': step === 50 ? 10 : 0 }));
    const [, points = ''] =
      /<polyline points="([^"]+)"/.exec(drawRuns([parseRunCurves(text.join('\n'), 'a')])) ?? [];
    const [left, middle, right] = points.split(' ').map((point) => point.split(',').map(Number));
    expect((left?.[0] ?? 0) + (right?.[0] ?? 0)).toBeCloseTo(2 * (middle?.[0] ?? 0), 1);
    expect(left?.[1]).toBe(right?.[1]);
    expect(middle?.[1]).toBeLessThan(left?.[1] ?? 0);
  });
  it('draws a long run with few points', () => {
    expect(drawRuns([run('long', 20_000)]).length).toBeLessThan(150_000);
  });
  it('refuses runs without a measurement', () => {
    expect(() => drawRuns([parseRunCurves('', 'empty')])).toThrow(
      /plot: must have a step.*got none in 1 runs/,
    );
  });
});
