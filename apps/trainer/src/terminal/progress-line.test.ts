import { describe, expect, it } from 'vitest';

import { createProgressLine } from './progress-line.ts';
import type { Progress } from './progress-text.ts';
import { createTerminal } from './terminal.ts';

function setUp(isTTY: boolean, options: { columns?: number; everySteps?: number } = {}) {
  let out = '';
  let now = 0;
  const { columns = 200, ...progress } = options;
  const stdout = { isTTY, columns, write: (text: string) => (out += text) };
  const terminal = createTerminal({ stdout, stderr: { write: () => {} }, env: {} });
  const line = createProgressLine(terminal, { ...progress, nowMs: () => now });
  return { line, stdout, read: () => out, wait: (ms: number) => void (now += ms) };
}

function at(step: number): Progress {
  return {
    name: 'demo',
    step,
    steps: 100,
    fraction: step / 100,
    loss: 5,
    tokensPerSecond: 4096,
    secondsLeft: 90,
    mfu: 0.617,
    balance: '▁▂',
    gradientNorm: 1.234,
    learningRate: 9.8e-4,
  };
}

const plainAt = (step: number): string =>
  `step ${String(step).padStart(3)}/100  loss 5.000  4.10 k tok/s  1 min 30 s left  MFU 62 %  experts ▁▂  grad 1.23  lr 9.8e-4\n`;

describe('progress', () => {
  it('is a plain line every ten seconds without a terminal, and the last state at the end', () => {
    const { line, read, wait } = setUp(false);
    line.update(at(1));
    wait(5000);
    line.update(at(2));
    wait(5000);
    line.update(at(3));
    line.update(at(4));
    line.end();
    line.end();
    expect(read()).toBe([1, 3, 4].map(plainAt).join(''));
    expect(read()).not.toMatch(/\p{Cc}(?<!\n)/u);
  });
  it('is a plain line every so many steps when that is asked for', () => {
    const { line, read, wait } = setUp(false, { everySteps: 3 });
    for (let step = 1; step <= 7; step++) {
      line.update(at(step));
      wait(60_000);
    }
    line.end();
    expect(read()).toBe([3, 6, 7].map(plainAt).join(''));
  });
  it('is rarer in a log of many hours: at most a line a minute', () => {
    const { line, read, wait } = setUp(false);
    let lines = 0;
    const linesOfAnHour = (): number => {
      const before = lines;
      for (let second = 0; second < 3600; second++) {
        line.update(at(1));
        wait(1000);
      }
      lines = read().split('\n').length - 1;
      return lines - before;
    };
    const [first, second] = [linesOfAnHour(), linesOfAnHour()];
    expect(first).toBeGreaterThan(120);
    expect(first).toBeLessThan(260);
    for (let hour = 3; hour < 10; hour++) linesOfAnHour();
    expect(second).toBeLessThan(first);
    expect(linesOfAnHour()).toBe(60);
  });
  it('puts the newest plain line before a note, so that lines stay in order', () => {
    const { line, read } = setUp(false);
    line.update(at(1));
    line.update(at(2));
    line.note('evaluated');
    line.note('saved');
    expect(
      read()
        .split('\n')
        .map((text) => text.trim().slice(0, 10)),
    ).toEqual(['step   1/1', 'step   2/1', 'evaluated', 'saved', '']);
  });
  it('redraws one line on a terminal, at most ten times a second', () => {
    const { line, read, wait } = setUp(true);
    for (let step = 1; step <= 50; step++) {
      line.update(at(step));
      wait(10);
    }
    line.end();
    expect(read().match(/\r/g)).toHaveLength(6);
    expect(read()).toContain('demo  ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌   50/100');
    expect(read().endsWith('\n')).toBe(true);
    expect(read().match(/\n/g)).toHaveLength(1);
  });
  it('keeps notes and draws the progress again below them', () => {
    const { line, read } = setUp(true);
    line.update(at(1));
    line.note('saved');
    expect(read()).toContain('\r\u001b[Ksaved\n\rdemo  ╌');
    expect(read().split('saved')[1]).toContain('1/100');
  });
  it('leaves nothing on a terminal when no step was done', () => {
    const { line, read } = setUp(true);
    line.note('text');
    line.end();
    expect(read()).toBe('\r\u001b[Ktext\n');
  });
});

describe('a window that is resized', () => {
  it('gets a line of its new width from the next step on', () => {
    const { line, stdout, read, wait } = setUp(true, { columns: 60 });
    const widths: number[] = [];
    for (const columns of [60, 120, 200]) {
      stdout.columns = columns;
      const before = read().length;
      line.update(at(1));
      widths.push(read().slice(before).replace('\r', '').replace('\u001b[K', '').length);
      wait(1000);
    }
    expect(widths[0]).toBeLessThan(60);
    expect(widths[1]).toBeGreaterThan(60);
    expect(widths[2]).toBeGreaterThan(120);
    expect(read()).not.toContain('\n');
  });
  it('starts a new line when it became narrower than the old one, which may be wrapped by now', () => {
    const { line, stdout, read, wait } = setUp(true, { columns: 120 });
    line.update(at(1));
    stdout.columns = 40;
    wait(1000);
    line.update(at(2));
    wait(1000);
    line.update(at(3));
    const [wide, narrow] = read().split('\n');
    expect(wide?.match(/\r/g)).toHaveLength(1);
    // Drawn on the new line, then once more over itself.
    expect(narrow?.match(/\r/g)).toHaveLength(1);
    expect(read().match(/\n/g)).toHaveLength(1);
  });
  it.each([0, undefined])('that does not tell its width (%s) gets a hundred columns', (columns) => {
    const { line, stdout, read } = setUp(true);
    Object.assign(stdout, { columns });
    line.update(at(1));
    const drawn = read().replace('\r', '').replace('\u001b[K', '');
    expect(drawn.length).toBeLessThan(100);
    expect(drawn.length).toBeGreaterThan(70);
  });
});
