import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { displayWidth } from './display-width.ts';
import { droppedOrder, fitProgress, progressText, shownOrder } from './progress-text.ts';
import type { Progress, ProgressPart } from './progress-text.ts';

const progress: Progress = {
  name: 'reference',
  step: 1234,
  steps: 8000,
  fraction: 0.154,
  loss: 3.4567,
  tokensPerSecond: 4630,
  secondsLeft: 3000,
  mfu: 0.617,
  balance: '▁▂▁▃▁▁▂▁',
  gradientNorm: 0.345,
  learningRate: 9.8e-4,
};

/** How each part is recognised in a line. */
const marks: { readonly [part in ProgressPart]: RegExp } = {
  name: /^reference/,
  bar: /━/,
  place: /1234\/8000/,
  loss: /loss 3\.457/,
  pace: /4\.63 k tok\/s/,
  left: /50 min 00 s left/,
  mfu: /MFU 62 %/,
  experts: /experts ▁▂▁▃▁▁▂▁/,
  gradient: /grad 0\.345/,
  rate: /lr 9\.8e-4/,
};

function partsIn(line: string): ProgressPart[] {
  return shownOrder.filter((part) => marks[part].test(line));
}

describe('a line of progress', () => {
  it('shows everything where there is room, in one order', () => {
    expect(fitProgress(progress, 200)).toBe(
      'reference  ━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  1234/8000  loss 3.457  4.63 k tok/s  50 min 00 s left  MFU 62 %  ' +
        'experts ▁▂▁▃▁▁▂▁  grad 0.345  lr 9.8e-4',
    );
  });
  it('fits into every width from 20 to 200 columns, and leaves out the least important parts only', () => {
    const all = new Map(
      shownOrder.map((part) => [part, fitProgress(progress, 999).match(partText(part))?.[0]]),
    );
    for (let columns = 20; columns <= 200; columns++) {
      const line = fitProgress(progress, columns);
      expect(displayWidth(line), line).toBeLessThanOrEqual(columns);
      const shown = partsIn(line);
      const dropped = droppedOrder.slice(0, shownOrder.length - shown.length);
      expect(shown, line).toEqual(shownOrder.filter((part) => !dropped.includes(part)));
      // One part more would not have fitted.
      const last = dropped.at(-1);
      const fuller = shownOrder.filter((part) => part === last || !dropped.includes(part));
      const width = fuller.map((part) => all.get(part) ?? '').join('  ').length;
      if (last !== undefined) expect(width, line).toBeGreaterThan(columns);
    }
    expect(partsIn(fitProgress(progress, 80))).toEqual(['place', 'loss', 'pace', 'left', 'experts']);
  });
  it('keeps the place longest, and cuts even that', () => {
    expect(fitProgress(progress, 20)).toBe('1234/8000');
    expect(fitProgress(progress, 6)).toBe('1234/…');
    expect(fitProgress(progress, 1)).toBe('…');
  });
  it('drops parts in the order of the list, each of them once, never the place', () => {
    expect(droppedOrder.toSorted()).toEqual(shownOrder.filter((part) => part !== 'place').toSorted());
  });
  it('fits for any run: any name, any numbers', () => {
    const figure = fc.oneof(fc.double(), fc.constantFrom(0, NaN, Infinity, -Infinity));
    fc.assert(
      fc.property(
        fc.record({
          name: fc.oneof(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' })),
          step: fc.nat({ max: 1e9 }),
          steps: fc.option(fc.nat({ max: 1e9 }), { nil: undefined }),
          fraction: figure,
          loss: figure,
          tokensPerSecond: figure,
          secondsLeft: figure,
          mfu: fc.option(figure, { nil: undefined }),
          balance: fc.string({ unit: fc.constantFrom('▁', '▅', '█', '?'), maxLength: 96 }),
          gradientNorm: figure,
          learningRate: figure,
        }),
        fc.integer({ min: 1, max: 240 }),
        (any, columns) => {
          const line = fitProgress(any, columns);
          expect(displayWidth(line)).toBeLessThanOrEqual(columns);
          expect(line).not.toMatch(/\p{Cc}/u);
        },
      ),
    );
  });
  it('shows the share that is done when time decides', () => {
    expect(progressText({ ...progress, steps: undefined, fraction: 0.999 })).toMatch(
      /^1234 \(99 %\) {2}loss/,
    );
  });
  it('says ? while nobody knows how long it takes, and nothing of what is not measured', () => {
    const line = progressText({
      ...progress,
      secondsLeft: NaN,
      mfu: undefined,
      balance: '',
      learningRate: 0,
    });
    expect(line).toBe('1234/8000  loss 3.457  4.63 k tok/s  ? left  grad 0.345  lr 0');
  });
  it('stays short in runs of many days, and with numbers that went astray', () => {
    const line = progressText({
      ...progress,
      step: 12_345_678,
      steps: 99_999_999,
      secondsLeft: 12 * 86_400 + 7300,
      loss: Infinity,
      gradientNorm: 123_456,
    });
    expect(line).toBe(
      '12345678/99999999  loss Infinity  4.63 k tok/s  12 d 02 h left  MFU 62 %  experts ▁▂▁▃▁▁▂▁  grad 1.2e+5  lr 9.8e-4',
    );
  });
  it('cuts a long name, and makes it one line', () => {
    const named = (name: string): string => fitProgress({ ...progress, name }, 999).split('  ')[0] ?? '';
    expect(named('a'.repeat(30))).toBe(`${'a'.repeat(23)}…`);
    expect(named('two\nlines')).toBe('two lines');
    expect(named('参考走行'.repeat(5))).toBe('参考走行参考走行参考走…');
  });
});

/** A part with whatever is around it in the whole line. */
function partText(part: ProgressPart): RegExp {
  const { source } = marks[part];
  return part === 'bar' ? /━[━╌]*/ : new RegExp(source);
}
