import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { splitWords } from './pretokenize.ts';
import { readBytePairModel } from './tokenizer-definition.ts';
import { trainTokenizer } from './train-tokenizer.ts';

/** Slow and obvious: counts every pair of every word anew for each merge. */
function slowMerges(texts: readonly string[], rule: { size: number; minimumCount: number }): string[] {
  const base = readBytePairModel(trainTokenizer(['a'], { vocabularySize: 257 })).vocabulary;
  const ids = new Map(base);
  const encoder = new TextEncoder();
  const characters = [...base.keys()];
  const byteNames = new Map<number, string>();
  for (const name of characters.slice(1)) {
    const code = name.codePointAt(0) ?? 0;
    const isItself =
      (code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255);
    if (isItself) byteNames.set(code, name);
  }
  let next = 256;
  for (let byte = 0; byte < 256; byte++)
    if (!byteNames.has(byte)) byteNames.set(byte, String.fromCodePoint(next++));
  const words = texts.flatMap((text) =>
    splitWords(text).map((word) => [...encoder.encode(word)].map((byte) => byteNames.get(byte) ?? '')),
  );
  const merges: string[] = [];
  while (ids.size < rule.size) {
    const counts = new Map<string, number>();
    for (const word of words) {
      for (let at = 1; at < word.length; at++) {
        const key = `${word[at - 1]} ${word[at]}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    }
    const order = (key: string): number[] => key.split(' ').map((name) => ids.get(name) ?? -1);
    const [best] = [...counts].toSorted(([a, countA], [b, countB]) => {
      const [leftA = 0, rightA = 0] = order(a);
      const [leftB = 0, rightB = 0] = order(b);
      return countB - countA || leftA - leftB || rightA - rightB;
    });
    if (best === undefined || best[1] < rule.minimumCount) break;
    const [left, right] = best[0].split(' ') as [string, string];
    if (!ids.has(left + right)) ids.set(left + right, ids.size);
    merges.push(best[0]);
    for (const word of words) {
      for (let at = 0; at + 1 < word.length; at++) {
        if (word[at] === left && word[at + 1] === right) word.splice(at, 2, left + right);
      }
    }
  }
  return merges;
}

describe('trainTokenizer', () => {
  it('learns what counting everything anew for each merge learns', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' ', 'é', '1', '\n'), maxLength: 60 });
    fc.assert(
      fc.property(
        fc.array(text, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 3 }),
        (texts, minimumCount) => {
          fc.pre(texts.some((one) => splitWords(one).length > 0));
          const size = 290;
          const { merges } = readBytePairModel(trainTokenizer(texts, { vocabularySize: size, minimumCount }));
          expect(merges.map((pair) => pair.join(' '))).toEqual(slowMerges(texts, { size, minimumCount }));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('does not depend on the order of the texts', () => {
    const texts = ['the cat sat on the mat', 'a cat and a hat', 'that is that'];
    const options = { vocabularySize: 280 };
    expect(trainTokenizer(texts.toReversed(), options)).toEqual(trainTokenizer(texts, options));
  });

  it('stops early when no pair is frequent enough', () => {
    const { vocabulary } = readBytePairModel(trainTokenizer(['ab ab cd'], { vocabularySize: 1000 }));
    expect([...vocabulary.keys()].slice(257)).toEqual(['ab', 'Ġab'].slice(0, vocabulary.size - 257));
    expect(vocabulary.size).toBe(258);
  });

  it.each([
    [{ vocabularySize: 256 }, /vocabularySize must be an integer from 257 .* got 256/],
    [{ vocabularySize: 1000.5 }, /got 1000.5/],
    [{ vocabularySize: 300, minimumCount: 0 }, /minimumCount must be a positive integer, got 0/],
    [{ vocabularySize: 300, specialTokens: ['<a>', '<a>'] }, /specialTokens must be distinct/],
  ])('rejects %j', (options, message) => {
    expect(() => trainTokenizer(['text'], options)).toThrow(message);
  });

  it('rejects empty text', () => {
    expect(() => trainTokenizer(['', ''], { vocabularySize: 300 })).toThrow(
      /expected text to learn merges from, got nothing/,
    );
  });
});
