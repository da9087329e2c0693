import { readFileSync } from 'node:fs';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createTokenHistory, noteMade, penaliseInto } from './penalty.kernel.ts';
import { filteredTokens } from './sample.kernel.ts';

const vocabulary = 12;
const none = { repetition: 1, presence: 0, frequency: 0 };
const id = fc.integer({ min: 0, max: vocabulary - 1 });
const row = fc
  .array(fc.double({ min: -8, max: 8, noNaN: true }), { minLength: vocabulary, maxLength: vocabulary })
  .map((values) => Float32Array.from(values));

interface Texts {
  readonly prompt: readonly number[];
  readonly made: readonly number[];
}

function penalised(logits: Float32Array, { prompt, made }: Texts, penalties: typeof none): Float32Array {
  const history = createTokenHistory(prompt, vocabulary);
  for (const token of made) noteMade(history, token);
  const out = logits.slice();
  penaliseInto(out, history, penalties);
  return out;
}

/** The definition, slowly: every token of the vocabulary, counting through both texts. */
function byDefinition(logits: Float32Array, { prompt, made }: Texts, penalties: typeof none): number[] {
  return [...logits].map((logit, token) => {
    const isSeen = prompt.includes(token) || made.includes(token);
    const count = made.filter((other) => other === token).length;
    const repeated = logit < 0 ? logit * penalties.repetition : logit / penalties.repetition;
    const penalty = (count > 0 ? penalties.presence : 0) + penalties.frequency * count;
    return (isSeen ? repeated : logit) - penalty;
  });
}

describe('penaliseInto', () => {
  it('is the definition, token by token', () => {
    const penalties = fc.record({
      repetition: fc.constantFrom(0.5, 1, 1.1, 3),
      presence: fc.constantFrom(-1, 0, 0.6, 2),
      frequency: fc.constantFrom(-0.5, 0, 0.3),
    });
    const texts = fc.record({ prompt: fc.array(id, { maxLength: 9 }), made: fc.array(id, { maxLength: 9 }) });
    fc.assert(
      fc.property(row, texts, penalties, (logits, both, values) => {
        const expected = byDefinition(logits, both, values);
        for (const [token, logit] of penalised(logits, both, values).entries()) {
          expect(logit).toBeCloseTo(expected[token] ?? Number.NaN, 4);
        }
      }),
    );
  });

  it('changes nothing with 1, 0, 0', () => {
    fc.assert(
      fc.property(row, fc.array(id), (logits, made) => {
        expect(penalised(logits, { prompt: [0, 1], made }, none)).toEqual(logits);
      }),
    );
  });

  it('counts the prompt for the repetition penalty only, and each token once for it', () => {
    const logits = new Float32Array(vocabulary).fill(2);
    const texts = { prompt: [3, 3, 3], made: [5, 5] };
    const out = penalised(logits, texts, { repetition: 2, presence: 0.25, frequency: 0.125 });
    expect([out[3], out[5], out[0]]).toEqual([1, 1 - 0.25 - 2 * 0.125, 2]);
  });

  it('keeps minus infinity and leaves ids outside the vocabulary out', () => {
    const logits = new Float32Array(vocabulary).fill(-Infinity);
    const texts = { prompt: [0, 99, -1], made: [1] };
    expect(penalised(logits, texts, { repetition: 2, presence: 1, frequency: 1 })).toEqual(logits);
  });
});

interface SamplingCase {
  readonly settings: { readonly [key: string]: number };
  readonly history: number[];
  readonly logits: number[];
  readonly probabilities: number[];
}

describe('penalties and filters together', () => {
  const file = new URL('../test/__fixtures__/sampling.json', import.meta.url);
  const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: SamplingCase[] };

  it.each(cases.map((entry) => [JSON.stringify(entry.settings), entry] as const))(
    'give the distribution of transformers with %s',
    (_, { settings, history, logits, probabilities }) => {
      const values = Float32Array.from(logits);
      const penalties = { ...none, repetition: settings['repetition_penalty'] ?? 1 };
      penaliseInto(values, createTokenHistory(history, values.length), penalties);
      const { ids, weights } = filteredTokens(values, {
        temperature: settings['temperature'] ?? 1,
        topK: settings['top_k'] ?? 0,
        topP: settings['top_p'] ?? 1,
        minP: settings['min_p'] ?? 0,
      });
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const got = probabilities.map(() => 0);
      for (const [at, token] of ids.entries()) got[token] = (weights[at] ?? 0) / total;
      for (const [token, probability] of probabilities.entries()) {
        expect(got[token]).toBeCloseTo(probability, 5);
        expect((got[token] ?? 0) > 0).toBe(probability > 0);
      }
    },
  );
});
