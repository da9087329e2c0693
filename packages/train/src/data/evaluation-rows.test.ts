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

  it('stops before the document that would exceed the limit, and takes at least one', () => {
    const shard = packDocuments(
      ['aaaa', 'bbbb', 'cccc'].map((text) => ({ name: text, text })),
      tokenizer,
    );
    const plan = (maximumTokens: number): number =>
      planEvaluation(shard, { length: 3, rows: 1, maximumTokens }).documents;
    expect([plan(1), plan(4), plan(8), plan(100)]).toEqual([1, 1, 2, 3]);
  });
});
