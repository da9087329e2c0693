import { mkdirSync, mkdtempSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { appendHistory, historyFileOf, historySize, readHistory } from './prompt-history.ts';

const folder = mkdtempSync(join(tmpdir(), 'moebius-history-'));

describe('the history of prompts', () => {
  it('gives back what was added, newest first, whatever the lines hold', async () => {
    const file = join(folder, 'new/state/prompt-history');
    expect(await readHistory(file)).toEqual([]);
    for (const line of ['first', 'a "quoted"\nline', 'naïve 🙂']) await appendHistory(file, line);
    expect(await readHistory(file)).toEqual(['naïve 🙂', 'a "quoted"\nline', 'first']);
  });
  it('is for its owner only, also where the file was open before', async () => {
    const file = join(folder, 'open/prompt-history');
    mkdirSync(join(folder, 'open'));
    writeFileSync(file, '', { mode: 0o644 });
    await appendHistory(file, 'secret');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await appendHistory(join(folder, 'made/prompt-history'), 'secret');
    expect(statSync(join(folder, 'made')).mode & 0o777).toBe(0o700);
  });
  it('stays bounded, and leaves out lines that are damaged', async () => {
    const file = join(folder, 'long');
    const lines = Array.from({ length: 2 * historySize + 5 }, (_, index) => JSON.stringify(`line ${index}`));
    writeFileSync(file, `${lines.join('\n')}\n{"half`);
    const history = await readHistory(file);
    expect(history).toHaveLength(historySize);
    expect(history[0]).toBe(`line ${2 * historySize + 4}`);
    expect(readFileSync(file, 'utf8').trim().split('\n')).toHaveLength(historySize);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).not.toContain('long.partial');
  });
  it('never fails: without a place there is none', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    await appendHistory(join(file, 'below/prompt-history'), 'x');
    expect(await readHistory(join(file, 'below/prompt-history'))).toEqual([]);
  });
  it('is in the folder for state', () => {
    expect(historyFileOf({ MOEBIUS_STATE: '/a' })).toBe('/a/prompt-history');
    expect(historyFileOf({ XDG_STATE_HOME: '/b' })).toBe('/b/moebius/prompt-history');
    expect(historyFileOf({})).toMatch(/\.local\/state\/moebius\/prompt-history$/);
  });
});
