import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { cutToWidth, displayWidth, oneLine } from './display-width.ts';

describe('the width of a text', () => {
  it.each([
    ['', 0],
    ['demo', 4],
    ['naïve', 5],
    ['nai\u0308ve', 5],
    ['日本語', 6],
    ['한국어', 6],
    ['ｱｲｳ', 3],
    ['（ＡＢＣ）', 10],
    ['🙂', 2],
    ['👩‍👩‍👧‍👦', 2],
    ['🏳️‍🌈', 2],
    ['▁▂█━╌', 5],
    ['…', 1],
    ['a\u200bb', 2],
    ['a\u0000b', 2],
  ])('of %j is %i columns', (text, expected) => {
    expect(displayWidth(text)).toBe(expected);
  });
});

describe('a text that is cut', () => {
  it('ends with … and never in the middle of a character', () => {
    expect(cutToWidth('日本語', 6)).toBe('日本語');
    expect(cutToWidth('日本語', 5)).toBe('日本…');
    expect(cutToWidth('日本語', 4)).toBe('日…');
    expect(cutToWidth('👩‍👩‍👧‍👦 family', 4)).toBe('👩‍👩‍👧‍👦 …');
    expect(cutToWidth('demo', 1)).toBe('…');
    expect(cutToWidth('demo', 0)).toBe('');
  });
  it('fits, and is the text or the beginning of it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 0, max: 30 }), (text, columns) => {
        const cut = cutToWidth(text, columns);
        expect(displayWidth(cut)).toBeLessThanOrEqual(columns);
        if (cut !== text) expect(text.startsWith(cut.slice(0, -1))).toBe(true);
      }),
    );
  });
  it('is one line without control characters', () => {
    expect(oneLine('a\r\n\u001b[2Jb\tc')).toBe('a [2Jb c');
  });
});
