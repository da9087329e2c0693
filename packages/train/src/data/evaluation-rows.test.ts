import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { trainTokenizer } from '../tokenizer/train-tokenizer.ts';
import { evaluationRows, planEvaluation } from './evaluation-rows.ts';
import { packDocuments } from './token-shard.ts';

const tokenizer = createTokenizer(
  trainTokenizer(['a cat and a hat, a cat and a bat'], { vocabularySize: 270 }),
);
const documents = fc.array(fc.string({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 6 });

describe('evaluationRows', () => {
  it('with a stride counts every token once, each behind at least length - stride tokens of its document', () => {
    fc.assert(
      fc.property(
        documents,
        fc.integer({ min: 2, max: 9 }),
        fc.integer({ min: 1, max: 9 }),
        (texts, length, wanted) => {
          const stride = Math.min(wanted, length);
          const shard = packDocuments(
            texts.map((text, index) => ({ name: `${index}`, text })),
            tokenizer,
          );
          const options = { length, rows: 3, stride };
          const plan = planEvaluation(shard, options);
          const seen: string[] = [];
          let row = 0;
          for (const batch of evaluationRows(shard, plan, options)) {
            for (let at = 0; at < batch.rows; at++, row++) {
              const { start, skip, document } = plan.windows[row]!;
              const begin = shard.starts[document]!;
              batch.targets.subarray(at * length, (at + 1) * length).forEach((target, place) => {
                if (target < 0) return;
                const position = start + place + 1;
                expect(target).toBe(shard.tokens[position]);
                expect(batch.ids[at * length + place]).toBe(shard.tokens[position - 1]);
                expect(place + 1).toBeGreaterThanOrEqual(Math.min(position - begin, length - stride + 1));
                seen.push(`${document}:${position}`);
              });
              expect(start).toBeGreaterThanOrEqual(begin);
              expect(skip === 0 || skip === length - stride).toBe(true);
            }
          }
          const expected = texts.flatMap((_, document) => {
            const [begin, end] = [shard.starts[document]!, shard.starts[document + 1]!];
            return Array.from({ length: end - begin - 1 }, (__, at) => `${document}:${begin + 1 + at}`);
          });
          expect(seen).toEqual(expected);
        },
      ),
    );
  });

  it('counts every token of every document once, in its own context', () => {
    fc.assert(
      fc.property(
        documents,
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 4 }),
        (texts, length, rows) => {
          const shard = packDocuments(
            texts.map((text, index) => ({ name: `${index}`, text })),
            tokenizer,
          );
          const plan = planEvaluation(shard, { length, rows });
          const pairs: string[] = [];
          for (const batch of evaluationRows(shard, plan, { length, rows })) {
            batch.targets.forEach((target, at) => target >= 0 && pairs.push(`${batch.ids[at]} ${target}`));
            expect(batch.rows).toBeLessThanOrEqual(rows);
          }
          const expected = texts.flatMap((text) => {
            const ids = [tokenizer.endOfTextId, ...tokenizer.encode(text)];
            return ids.slice(1).map((id, at) => `${ids[at]} ${id}`);
          });
          expect(pairs).toEqual(expected);
          expect(plan).toMatchObject({ documents: texts.length, tokens: expected.length });
          expect(plan.bytes).toBe(texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0));
        },
      ),
    );
  });

  const texts = Array.from({ length: 12 }, (_, index) => `a cat ${'and a hat '.repeat(index + 1)}é`);
  const long = packDocuments(
    texts.map((text, index) => ({ name: `${index}`, text })),
    tokenizer,
  );

  it('spreads a sample over the documents and counts the bytes of its targets', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 9 }),
        (maximumTokens, length) => {
          const plan = planEvaluation(long, { length, rows: 2, maximumTokens });
          const targets = [...evaluationRows(long, plan, { length, rows: 2 })].flatMap((rows) => [
            ...rows.targets,
          ]);
          const counted = targets.filter((target) => target >= 0);
          expect(plan.tokens).toBe(counted.length);
          expect(plan.bytes).toBe(tokenizer.countBytes(counted));
          expect(plan.tokens).toBeLessThanOrEqual(Math.max(maximumTokens, length) + length * 2);
          expect(new Set(plan.windows.map(({ start }) => start)).size).toBe(plan.windows.length);
        },
      ),
    );
    expect(planEvaluation(long, { length: 4, rows: 2, maximumTokens: 60 }).documents).toBeGreaterThan(6);
  });

  it('takes whole documents, at least one, where the bytes of a part are not known', () => {
    const unknown = { ...long, tokenBytes: null };
    const sizes = texts.map((text) => tokenizer.encode(text).length);
    const [first = 0, second = 0] = sizes;
    const documents = (maximumTokens: number): number =>
      planEvaluation(unknown, { length: 3, rows: 1, maximumTokens }).documents;
    expect([documents(1), documents(first), documents(first + second), documents(1e9)]).toEqual([
      1, 1, 2, 12,
    ]);
    const two = planEvaluation(unknown, { length: 3, rows: 1, maximumTokens: first + second });
    expect(two.tokens).toBe(first + second);
    expect(two.bytes).toBe(texts.slice(0, 2).reduce((sum, text) => sum + Buffer.byteLength(text), 0));
  });
});
