import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { JsonScanner } from './json-scanner.ts';

function accepts(text: string): boolean {
  try {
    const scanner = new JsonScanner(text, 'x');
    scanner.skip();
    scanner.end();
    return true;
  } catch {
    return false;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe('JsonScanner', () => {
  it('accepts what JSON.stringify writes, up to its depth', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 8 }), fc.constantFrom(undefined, 2, '\t'), (text, indent) => {
        expect(accepts(JSON.stringify(JSON.parse(text), undefined, indent))).toBe(true);
      }),
    );
  });

  it('accepts nothing that JSON.parse refuses (mutated documents)', () => {
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 3 }),
        fc.nat(),
        fc.constantFrom(...'{}[]",:0-.eE+\\u\n xtn'),
        (text, place, letter) => {
          const at = place % (text.length + 1);
          const changed = text.slice(0, at) + letter + text.slice(at + 1);
          if (accepts(changed)) expect(isJson(changed)).toBe(true);
        },
      ),
      { numRuns: 5000 },
    );
  });

  it('reads strings as JSON.parse does', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        expect(new JsonScanner(JSON.stringify(value), 'x').string()).toBe(value);
        const escaped = [...value]
          .flatMap((part) => part.split(''))
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
        expect(new JsonScanner(`"${escaped.join('')}"`, 'x').string()).toBe(value);
      }),
    );
  });

  it('reads the integers that are safe, and no others', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 70n }), (value) => {
        const read = (): number => new JsonScanner(`${value},`, 'x').integer();
        if (value <= BigInt(Number.MAX_SAFE_INTEGER)) expect(read()).toBe(Number(value));
        else expect(read).toThrow('must be a non-negative safe integer');
      }),
    );
  });

  it.each([
    '"\\ud800"',
    '{"a":1,"a":2}',
    '01',
    '-',
    '1.',
    '.5',
    '+1',
    'NaN',
    'nul',
    '"\t"',
    '',
    '{"a"}',
    '[1,]',
    '{,}',
    '1 2',
  ])('refuses %s', (text) => {
    expect(accepts(text)).toBe(false);
  });

  it('refuses to follow nesting without end', () => {
    expect(() => new JsonScanner('['.repeat(1_000_000), 'x').skip()).toThrow('must nest at most 16 deep');
  });

  it('says where it stopped', () => {
    expect(() => new JsonScanner('{"a":x}', 'index').object(() => {})).toThrow(
      'index: must have the end of the object, got "x}" at character 5',
    );
  });
});
