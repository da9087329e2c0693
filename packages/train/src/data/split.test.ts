import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { splitDocuments } from './split.ts';

const named = (names: readonly string[]): { name: string; text: string }[] =>
  names.map((name) => ({ name, text: `text of ${name}` }));
const names = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12 }), { minLength: 2, maxLength: 60 });
const settings = fc.record({
  heldOutFraction: fc.double({ min: 0.01, max: 0.9, noNaN: true }),
  seed: fc.integer(),
});

describe('splitDocuments', () => {
  it('puts every document on exactly one side, and some on each', () => {
    fc.assert(
      fc.property(names, settings, (list, options) => {
        const { training, heldOut } = splitDocuments(named(list), options);
        expect([...training, ...heldOut].map(({ name }) => name).toSorted()).toEqual(list.toSorted());
        expect(training.length).toBeGreaterThan(0);
        expect(heldOut.length).toBeGreaterThan(0);
      }),
    );
  });

  it('does not depend on the order of the documents', () => {
    fc.assert(
      fc.property(names, settings, (list, options) => {
        const held = (order: readonly string[]): string[] =>
          splitDocuments(named(order), options)
            .heldOut.map(({ name }) => name)
            .toSorted();
        expect(held(list.toReversed())).toEqual(held(list));
      }),
    );
  });

  it('moves no document when another is added', () => {
    const list = Array.from({ length: 200 }, (_, index) => `document ${index}`);
    const options = { heldOutFraction: 0.2, seed: 3 };
    const before = new Set(splitDocuments(named(list), options).heldOut.map(({ name }) => name));
    const after = splitDocuments(named([...list, 'one more']), options).heldOut.map(({ name }) => name);
    expect(after.filter((name) => name !== 'one more')).toEqual([...before]);
    expect(before.size).toBeGreaterThan(20);
    expect(before.size).toBeLessThan(60);
  });

  it('holds out other documents for another seed', () => {
    const list = named(Array.from({ length: 100 }, (_, index) => `${index}`));
    const held = (seed: number): string[] =>
      splitDocuments(list, { heldOutFraction: 0.2, seed }).heldOut.map(({ name }) => name);
    expect(held(1)).not.toEqual(held(2));
  });

  it('cuts a single document at a line end and loses nothing', () => {
    const text = Array.from({ length: 20 }, (_, index) => `line ${index}`).join('\n');
    const { training, heldOut } = splitDocuments([{ name: 'book', text }], {
      heldOutFraction: 0.25,
      seed: 0,
    });
    expect((training[0]?.text ?? '') + (heldOut[0]?.text ?? '')).toBe(text);
    expect(heldOut[0]?.text.startsWith('line ')).toBe(true);
    expect((heldOut[0]?.text.length ?? 0) / text.length).toBeCloseTo(0.25, 1);
  });

  it.each(['one line only', 'one line only\n', '\n\nx\n\n'])('refuses to cut %j', (text) => {
    expect(() => splitDocuments([{ name: 'book', text }], { heldOutFraction: 0.1, seed: 0 })).toThrow(
      /book: must have several lines .* \(add line breaks or files, or give held-out text of its own\)/,
    );
  });
});
