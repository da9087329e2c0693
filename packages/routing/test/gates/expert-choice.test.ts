/** Line G10 of the coverage checklist: every expert has exactly C tokens; the causality warning is raised. */
import { createEngine } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { causalityWarning } from '../../src/index.ts';
import {
  baseRouter,
  expertChoiceRouter,
  loryRouter,
  meoRouter,
  mixtureOfDepthsRouter,
  sentenceRouter,
  smearRouter,
  softMoeRouter,
} from '../../src/gates/index.ts';
import { withoutLeak } from '../../src/testing/index.ts';
import { valuesOf } from '../../src/testing/checks.ts';
import { choicesOf, loadOf, run, train } from './one-pass.ts';
import { make } from './routers.ts';

beforeAll(async () => {
  await createEngine();
});

describe('G10: expert choice and Mixture-of-Depths', () => {
  it('gives every expert exactly C = round(T·factor/E) tokens, padding none', () => {
    withoutLeak('expert choice', () => {
      const router = make(expertChoiceRouter, { capacityFactor: 2 });
      expect(run(router, 20, { see: loadOf })).toEqual([7, 7, 7, 7, 7, 7]);
      const mask = Uint8Array.from({ length: 20 }, (_, t) => (t < 8 ? 0 : 1));
      expect(run(router, 20, { options: { mask }, see: loadOf })).toEqual([4, 4, 4, 4, 4, 4]);
      const bySequence = make(expertChoiceRouter, { capacityFactor: 1.5, scope: 'sequence' });
      const choices = run(bySequence, 16, { options: { sequences: 4 }, see: choicesOf }).split(' ');
      for (let b = 0; b < 4; b += 1) {
        const count = choices
          .slice(4 * b, 4 * b + 4)
          .join('+')
          .split('+')
          .filter((own) => own !== '');
        expect(count).toHaveLength(6);
      }
      const capped = make(expertChoiceRouter, { capacityFactor: 2, maxPerToken: 2 });
      const most = run(capped, 20, { see: choicesOf })
        .split(' ')
        .map((own) => own.split('+').length);
      expect(Math.max(...most)).toBe(2);
    });
  });

  it('Mixture-of-Depths takes an eighth of each sequence in training, and those above 0 outside it', () => {
    withoutLeak('depths', () => {
      const router = make(mixtureOfDepthsRouter, {}, { count: 1 });
      const options = { ...train, sequences: 2 };
      const choices = run(router, 48, { options, see: choicesOf }).split(' ');
      for (const b of [0, 1])
        expect(choices.slice(24 * b, 24 * b + 24).filter((own) => own === '0')).toHaveLength(3);
      run(router, 48, {
        see: ({ route, logits, scores }) => {
          const above = [...valuesOf(logits)].map((z) => (z > 0 ? '0' : '')).join(' ');
          expect(choicesOf({ route, logits, scores, saved: null })).toBe(above);
        },
      });
    });
  });

  it('warns that they look ahead', () => {
    const causal = [
      make(mixtureOfDepthsRouter, {}, { count: 1 }),
      make(loryRouter),
      make(baseRouter),
      make(sentenceRouter, { pool: 'prefix' }),
    ];
    expect(causalityWarning(causal)).toBe(null);
    const ahead = [
      make(expertChoiceRouter),
      make(mixtureOfDepthsRouter, { predict: false }, { count: 1 }),
      make(softMoeRouter),
      make(smearRouter),
      make(meoRouter),
      make(sentenceRouter),
      make(loryRouter, { first: 'self' }),
    ];
    expect(causalityWarning(ahead)).toMatch(
      /^routers of layers 0, 1, 2, 3, 4, 5, 6 \("expert-choice", "mixture-of-depths", "soft-moe", "smear", "meo", "sentence", "lory"\): are not causal/,
    );
  });
});
