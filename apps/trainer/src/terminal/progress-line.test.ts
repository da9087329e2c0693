import { describe, expect, it } from 'vitest';

import { createProgressLine } from './progress-line.ts';
import type { Progress } from './progress-line.ts';
import { createTerminal } from './terminal.ts';

function setUp(isTTY: boolean) {
  let out = '';
  let now = 0;
  const stdout = { isTTY, columns: 200, write: (text: string) => (out += text) };
  const terminal = createTerminal({ stdout, stderr: { write: () => {} }, env: {} });
  const line = createProgressLine(terminal, { everySeconds: 10, nowMs: () => now });
  return { line, read: () => out, wait: (ms: number) => void (now += ms) };
}

function at(step: number): Progress {
  return {
    step,
    steps: 100,
    fraction: step / 100,
    loss: 5,
    tokensPerSecond: 4096,
    secondsLeft: 90,
    balance: '▁▂',
  };
}

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
    const expected = [1, 3, 4].map(
      (step) => `step   ${step}/100  loss 5.000  4.10 k tok/s  1 min 30 s left  experts ▁▂\n`,
    );
    expect(read()).toBe(expected.join(''));
    expect(read()).not.toContain('\u001b');
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
    expect(read()).toContain('━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌  50/100');
    expect(read().endsWith('\n')).toBe(true);
    expect(read().match(/\n/g)).toHaveLength(1);
  });
  it('keeps notes and draws the progress again below them', () => {
    const { line, read } = setUp(true);
    line.update(at(1));
    line.note('saved');
    expect(read()).toContain('\r\u001b[Ksaved\n\r╌');
    expect(read().split('saved')[1]).toContain('1/100');
  });
  it('shows the share that is done when time decides', () => {
    const { line, read } = setUp(false);
    line.update({ ...at(7), steps: undefined, fraction: 0.256 });
    expect(read()).toMatch(/^step 7 \(26 %\)  loss/);
  });
  it('says ? while nobody knows how long it takes', () => {
    const { line, read } = setUp(false);
    line.update({ ...at(1), secondsLeft: NaN });
    expect(read()).toContain('  ? left');
  });
});
