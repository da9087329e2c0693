import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createStopFilter } from './stop-strings.ts';

function filtered(pieces: readonly string[], stops: readonly string[]): { text: string; stopped: boolean } {
  const filter = createStopFilter(stops);
  const text = pieces.map((piece) => filter.push(piece)).join('');
  return { text: text + filter.flush(), stopped: filter.stopped };
}

/** The definition, slowly: read on, one character at a time, until what was read ends with a stop string. */
function byDefinition(text: string, stops: readonly string[]): { text: string; stopped: boolean } {
  for (let end = 1; end <= text.length; end += 1) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (complete.length === 0) continue;
    const longest = Math.max(...complete.map((stop) => stop.length));
    return { text: text.slice(0, end - longest), stopped: true };
  }
  return { text, stopped: false };
}

const letters = (options: { minLength?: number; maxLength: number }) =>
  fc.string({ unit: fc.constantFrom('a', 'b', 'c'), ...options });

describe('createStopFilter', () => {
  it('gives the definition, however the text is cut', () => {
    const pieces = fc.array(letters({ maxLength: 4 }), { maxLength: 8 });
    const stops = fc.array(letters({ minLength: 1, maxLength: 4 }), { maxLength: 3 });
    fc.assert(
      fc.property(pieces, stops, (parts, ends) => {
        expect(filtered(parts, ends)).toEqual(byDefinition(parts.join(''), ends));
      }),
      { numRuns: 500 },
    );
  });

  it('gives text out as soon as it cannot be part of a stop string', () => {
    const filter = createStopFilter(['\n\nQ:']);
    expect(filter.push('so\n')).toBe('so');
    expect(filter.push('\n')).toBe('');
    expect(filter.push('\n')).toBe('\n');
    expect(filter.push('Q')).toBe('');
    expect(filter.push('!')).toBe('\n\nQ!');
    expect(filter.push('x\n\nQ: more')).toBe('x');
    expect([filter.stopped, filter.push('later'), filter.flush()]).toEqual([true, '', '']);
  });

  it('lets the longest of the stop strings that end together win', () => {
    expect(filtered(['x</end>'], ['end>', '</end>'])).toEqual({ text: 'x', stopped: true });
  });

  it('changes nothing without stop strings', () => {
    expect(filtered(['a', '', 'b'], [])).toEqual({ text: 'ab', stopped: false });
  });

  it('refuses empty stop strings, all at once', () => {
    expect(() => createStopFilter(['', 'x', ''])).toThrow(/stop\[0\].*stop\[2\]/);
  });
});
