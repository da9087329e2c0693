/** Line G9 of the coverage checklist: equal ids, equal experts; a pooled scope, identical routing. Also random gates, and messages. */
import { createEngine } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import type { Router, RouterOptions } from '../../src/index.ts';
import {
  domainRouter,
  frozenRandomRouter,
  hashRouter,
  multiGateRouter,
  randomRouter,
  sentenceRouter,
} from '../../src/gates/index.ts';
import { checkClose, withoutLeak } from '../../src/testing/index.ts';
import { valuesOf } from '../../src/testing/checks.ts';
import { choicesOf, loadOf, run, train, width } from './one-pass.ts';
import { make } from './routers.ts';

beforeAll(async () => {
  await createEngine();
});

describe('G9: experts by id, domain and sequence', () => {
  const ids = Int32Array.of(7, 3, 7, 0, 3, 11, 7, 0);

  it('gives equal ids equal experts, whatever the rows', () => {
    for (const options of [{}, { table: 'random', hashes: 2 }, { table: [1, 1, 0, 5] }]) {
      const seen = run(make(hashRouter, options), 8, { options: { ids }, see: choicesOf }).split(' ');
      for (const [t, id] of ids.entries()) expect(seen[t]).toBe(seen[ids.indexOf(id)]);
      expect(new Set(seen).size).toBeGreaterThan(1);
    }
    expect(run(make(hashRouter), 8, { options: { ids }, see: choicesOf })).toBe('1 3 1 0 3 5 1 0');
  });

  it('routes every token of a sequence alike where the mean of the sequence decides', () => {
    withoutLeak('sentence', () => {
      const router = make(sentenceRouter);
      const seen = run(router, 12, {
        options: { sequences: 3 },
        see: ({ route, logits, scores }) => ({
          choices: choicesOf({ route, logits, scores, saved: null }).split(' '),
          weights: route.kind === 'pairs' ? valuesOf(route.weights) : [],
          z: valuesOf(logits),
        }),
      });
      for (let t = 0; t < 12; t += 1) {
        const first = t - (t % 4);
        expect(seen.choices[t]).toBe(seen.choices[first]);
        expect(seen.z.subarray(6 * t, 6 * t + 6)).toEqual(seen.z.subarray(6 * first, 6 * first + 6));
      }
      expect(new Set(seen.choices).size).toBeGreaterThan(1);
    });
  });

  it('a mean over the prefix is the mean of the sequence at its last token', () => {
    withoutLeak('prefix', () => {
      const mask = Uint8Array.of(1, 0, 1, 1, 1, 1, 0, 1);
      const options = { sequences: 2, mask };
      const [whole, prefix] = ['sequence', 'prefix'].map((pool) =>
        run(make(sentenceRouter, { pool }), 8, { options, see: ({ logits }) => valuesOf(logits) }),
      );
      for (const t of [3, 7])
        checkClose(prefix!.subarray(6 * t, 6 * t + 6), whole!.subarray(6 * t, 6 * t + 6), `logits of ${t}`);
    });
  });

  it('gives every domain its experts, evenly weighted', () => {
    const router = make(domainRouter, { experts: [[0], [2, 4]] });
    const domain = Int32Array.of(0, 1, 1, 0);
    expect(run(router, 4, { options: { domain }, see: choicesOf })).toBe('0 2+4 2+4 0');
    const weights = run(router, 4, {
      options: { domain },
      see: ({ route }) => (route.kind === 'pairs' ? [...valuesOf(route.weights)] : []),
    });
    checkClose(weights, [1, 1, 0.5, 0.5, 0.5, 0.5], 'weights');
    const hashed = make(domainRouter, {
      inside: 'hash',
      experts: [
        [0, 1, 2],
        [3, 4, 5],
      ],
    });
    const inside = run(hashed, 4, {
      options: { domain, ids: Int32Array.of(9, 9, 8, 9) },
      see: choicesOf,
    }).split(' ');
    expect(inside[0]).toBe(inside[3]);
    expect(Number(inside[0])).toBeLessThan(3);
    expect(Number(inside[1])).toBeGreaterThanOrEqual(3);
  });
});

describe('random gates', () => {
  it('draw evenly in training, and the same outside it', () => {
    withoutLeak('random', () => {
      const router = make(randomRouter, { topK: 2 });
      const load = run(router, 3000, { options: train, see: loadOf });
      for (const count of load) expect(Math.abs(count - 1000)).toBeLessThan(120);
      const [one, two] = [0, 1].map(() => run(router, 50, { see: choicesOf }));
      expect(one).toBe(two);
      const bySequence = make(randomRouter, { scope: 'sequence', topK: 1 });
      const seen = run(bySequence, 40, { options: { ...train, sequences: 10 }, see: choicesOf }).split(' ');
      for (let t = 0; t < 40; t += 1) expect(seen[t]).toBe(seen[t - (t % 4)]);
      expect(new Set(seen).size).toBeGreaterThan(2);
    });
  });

  it('a frozen gate trains nothing, and has more experts as steps go by', () => {
    withoutLeak('frozen', () => {
      const router = make(frozenRandomRouter, { topK: 5, steps: 100 });
      expect(router.parameterShapes(width)).toEqual({});
      const pairs = (options: RouterOptions): number =>
        run(router, 10, { options, see: (output) => loadOf(output).reduce((a, b) => a + b, 0) });
      expect([0, 50, 100, 1000].map((step) => pairs({ ...train, step }))).toEqual([10, 30, 50, 50]);
      expect(pairs({})).toBe(50);
    });
  });
});

describe('what gates say', () => {
  it('says what is not given', () => {
    const messageOf = (router: Router, options: RouterOptions = {}): string => {
      try {
        return String(run(router, 2, { options, see: () => 'no error' }));
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(messageOf(make(hashRouter))).toBe(
      'layers[3] router "hash": ids must be given, got none (pass the token ids of the batch in options.ids)',
    );
    expect(messageOf(make(domainRouter))).toBe(
      'layers[3] router "domain": domain must be given, got none (pass the domain of each token with the batch, or set option "otherwise")',
    );
    expect(messageOf(make(domainRouter), { domain: Int32Array.of(0, 6) })).toBe(
      'layers[3] router "domain": domain[1]: must be in 0…5, got 6',
    );
    expect(messageOf(make(multiGateRouter, { tasks: 2 }), { domain: Int32Array.of(2, 0) })).toBe(
      'layers[3] router "multi-gate": domain[0]: must be in 0…1, got 2',
    );
    expect(() => make(hashRouter, { table: 'balanced', hashes: 0 })).toThrow(
      /layers\[3\] router "hash" create: options: must be a valid configuration, got 2 faults:\n/,
    );
    expect(() => make(domainRouter, { experts: [[0], [1]], otherwise: 2 })).toThrow(
      'otherwise: must be one of the 2 domains',
    );
    expect(() => make(multiGateRouter, { tasks: 2, sees: [[0]], otherwise: 2 })).toThrow(
      /sees: must have a list for each of 2 tasks.*\n.*otherwise: must be one of the 2 tasks/,
    );
  });
});
