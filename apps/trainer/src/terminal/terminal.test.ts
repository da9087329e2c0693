import { MoebiusError } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { exitCodeHelp, exitCodes, exitMeanings } from '../exit-codes.ts';
import { balanceStrip, imbalanceOf, loadRows } from './balance-strip.ts';
import { formatBytes, formatCount, formatDuration, formatFlops } from './format.ts';
import { reportError } from './report-error.ts';
import { formatTable } from './table.ts';
import { createTerminal } from './terminal.ts';
import type { TerminalSource } from './terminal.ts';

function capture(options: { isTTY?: boolean; env?: Record<string, string>; json?: boolean } = {}) {
  const written = { out: '', error: '' };
  const { isTTY = false, env = {}, json = false } = options;
  const source: TerminalSource = {
    stdout: { isTTY, columns: 80, write: (text) => (written.out += text) },
    stderr: { write: (text) => (written.error += text) },
    env,
  };
  return { written, terminal: createTerminal(source, { json }) };
}

describe('numbers', () => {
  it('are short and keep three figures', () => {
    expect([0, 7, 999, 1234, 12_345, 999_999, 1_234_567].map(formatCount)).toEqual([
      '0',
      '7',
      '999',
      '1.23 k',
      '12.3 k',
      '1.00 M',
      '1.23 M',
    ]);
    expect([12, 1536, 3 * 1024 ** 3].map(formatBytes)).toEqual(['12 B', '1.50 KiB', '3.00 GiB']);
    expect(formatFlops(4.2e9)).toBe('4.20 GFLOP');
  });
  it('show durations in two units', () => {
    expect([0.23, 8.24, 59.96, 185, 3600, 3719, 172_700, 1e6, Infinity].map(formatDuration)).toEqual([
      '0.2 s',
      '8.2 s',
      '1 min 00 s',
      '3 min 05 s',
      '1 h 00 min',
      '1 h 02 min',
      '47 h 58 min',
      '11 d 14 h',
      '?',
    ]);
  });
  it('never round to a thousand of the smaller unit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e15 }), (value) => {
        expect(parseFloat(formatCount(value))).toBeLessThan(1000);
      }),
    );
  });
});

describe('balance strip', () => {
  it('is low for even use and full for collapse', () => {
    expect(
      balanceStrip(
        [
          [4, 4, 4, 4],
          [8, 8, 0, 0],
          [5, 4, 4, 3],
        ],
        2,
      ),
    ).toBe('▁█▃');
    expect(imbalanceOf([8, 8, 0, 0])).toBe(2);
  });
  it('marks layers without pairs instead of inventing a number', () => {
    expect(balanceStrip([[0, 0]], 1)).toBe('?');
  });
  it('shows each expert against the busiest', () => {
    expect(loadRows([[8, 4, 1, 0]])).toEqual(['layer  0  █▅▂·  busiest expert 2.46 x mean']);
  });
});

describe('tables', () => {
  it('align the first column left and the others right', () => {
    expect(
      formatTable([
        ['name', 'bits'],
        ['gzip', '2.75'],
        ['model', '1.9'],
      ]),
    ).toEqual(['  name   bits', '  gzip   2.75', '  model   1.9']);
  });
});

describe('terminal', () => {
  it('gives programs JSON only', () => {
    const { terminal, written } = capture({ json: true, isTTY: true });
    terminal.line('for people');
    terminal.json({ a: 1 });
    terminal.warn('careful');
    expect(written).toEqual({ out: '{"a":1}\n', error: 'careful\n' });
    expect(terminal.isInteractive).toBe(false);
  });
  it('gives people lines only', () => {
    const { terminal, written } = capture();
    terminal.line('for people');
    terminal.json({ a: 1 });
    expect(written.out).toBe('for people\n');
  });
  it('lets no text of a model drive it', () => {
    const { terminal, written } = capture({ isTTY: true });
    terminal.text('a\tb\n\u001b[2Jc\rd\u009be');
    expect(written.out).toBe('a\tb\n\uFFFD[2Jc\uFFFDd\uFFFDe');
  });
  it('has colours on a terminal, and none with NO_COLOR, TERM=dumb, CI or a pipe', () => {
    expect(capture({ isTTY: true }).terminal.strong('x')).toBe('\u001b[1mx\u001b[0m');
    expect(capture({ isTTY: true, env: { NO_COLOR: '1' } }).terminal.strong('x')).toBe('x');
    expect(capture({ isTTY: true, env: { TERM: 'dumb' } }).terminal.isInteractive).toBe(false);
    expect(capture({ isTTY: true, env: { CI: 'true' } }).terminal.isInteractive).toBe(false);
    expect(capture().terminal.strong('x')).toBe('x');
    expect(capture({ env: { FORCE_COLOR: '1' } }).terminal.faint('x')).toBe('\u001b[2mx\u001b[0m');
  });
  it.each([
    [{ FORCE_COLOR: '0' }, true, false],
    [{ FORCE_COLOR: 'false' }, true, false],
    [{ FORCE_COLOR: '' }, true, true],
    [{ FORCE_COLOR: '3' }, false, true],
    [{ FORCE_COLOR: '1', NO_COLOR: '1' }, true, false],
    [{ NO_COLOR: '0' }, true, false],
    [{ NO_COLOR: '' }, true, true],
    [{ CI: 'true', FORCE_COLOR: '1' }, true, true],
    [{ CI: '0' }, true, true],
  ])('with %j on a terminal (%s) has colours: %s', (env, isTTY, expected) => {
    expect(capture({ isTTY, env }).terminal.strong('x') !== 'x').toBe(expected);
  });
  it('with FORCE_COLOR in a log is coloured, but redraws nothing', () => {
    const { terminal, written } = capture({ env: { FORCE_COLOR: '1' } });
    terminal.redraw('x');
    expect([terminal.isInteractive, written.out]).toEqual([false, '']);
  });
});

describe('errors', () => {
  it('have one exit status per kind', () => {
    const statusOf = (code: MoebiusError['code']) =>
      reportError(new MoebiusError({ code, message: 'x' })).status;
    expect([
      statusOf('configuration'),
      statusOf('io'),
      statusOf('engine'),
      statusOf('numerics'),
      statusOf('aborted'),
    ]).toEqual([2, 3, 4, 5, 130]);
  });
  it('of the file system say what to do, without a stack', () => {
    const full = Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC', path: '/x/y' });
    expect(reportError(full)).toMatchObject({
      status: 3,
      message:
        '/x/y: must be usable, got ENOSPC (free some disk space; what was saved before is still whole)',
      stack: undefined,
    });
  });
  it('that nobody expected keep their stack and say so', () => {
    const report = reportError(new TypeError('x is not a function'));
    expect(report).toMatchObject({ status: 1, code: 'internal', message: 'internal: x is not a function' });
    expect(report.stack).toContain('TypeError');
  });
  it('are documented with every status', () => {
    expect(exitMeanings.map(({ status }) => status)).toEqual(Object.values(exitCodes));
    for (const { status, meaning } of exitMeanings)
      expect(exitCodeHelp.split('\n')).toContain(`  ${String(status).padEnd(3)}  ${meaning}`);
  });
});
