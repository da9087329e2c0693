/** Line G7 of the coverage checklist: exactly equal loads; the optimum by brute force at T = 6, E = 3. */
import { createEngine, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { baseRouter, sinkhornRouter } from '../../src/gates/index.ts';
import { checkClose, withoutLeak } from '../../src/testing/index.ts';
import { kitRng, randomTensor, valuesOf } from '../../src/testing/checks.ts';
import { loadOf, pairsOf, run, train, valuesOfOnce, width } from './one-pass.ts';
import { make } from './routers.ts';

beforeAll(async () => {
  await createEngine();
});

describe('G7: balanced assignment', () => {
  it('BASE gives every expert equally many tokens in training, the best expert outside it', () => {
    withoutLeak('base', () => {
      const base = make(baseRouter, {}, { count: 4 });
      expect(run(base, 24, { options: train, see: loadOf })).toEqual([6, 6, 6, 6]);
      const mask = Uint8Array.from({ length: 24 }, (_, t) => (t % 6 === 0 ? 0 : 1));
      expect(run(base, 24, { options: { ...train, mask }, see: loadOf })).toEqual([5, 5, 5, 5]);
      const outside = run(base, 24, {
        see: ({ route, logits }) => {
          const z = valuesOf(logits);
          const best = Array.from({ length: 24 }, (_, t) => {
            const row = [...z.subarray(4 * t, 4 * t + 4)];
            return row.indexOf(Math.max(...row));
          });
          return [best, best.map((_, t) => pairsOf(route).experts(t)[0])];
        },
      });
      expect(outside[1]).toEqual(outside[0]);
    });
  });

  it('BASE assigns six tokens to three experts as brute force does, with weights σ(x·c)', () => {
    withoutLeak('base', () => {
      const base = make(baseRouter, {}, { count: 3 });
      run(base, 6, {
        options: train,
        see: ({ route, logits }) => {
          const z = valuesOf(logits);
          const sums: number[] = [];
          for (let code = 0; code < 3 ** 6; code += 1) {
            const owner = Array.from({ length: 6 }, (_, t) => Math.floor(code / 3 ** t) % 3);
            if ([0, 1, 2].some((e) => owner.filter((own) => own === e).length !== 2)) continue;
            sums.push(owner.reduce((sum, e, t) => sum + z[3 * t + e]!, 0));
          }
          expect(sums).toHaveLength(90);
          if (route.kind !== 'pairs') throw new Error('pairs expected');
          const chosen = [...route.plan.source].map((source) => z[source]!);
          expect(chosen.reduce((a, b) => a + b, 0)).toBeCloseTo(Math.max(...sums), 5);
          checkClose(
            valuesOf(route.weights),
            chosen.map((value) => 1 / (1 + Math.exp(-value))),
            'weights',
          );
        },
      });
    });
  });

  it('Sinkhorn brings the loads of training nearer to equal', () => {
    withoutLeak('sinkhorn', () => {
      const router = make(sinkhornRouter, { topK: 1 }, { count: 4 });
      const rows = (): Tensor2D => {
        const values = valuesOfOnce(randomTensor<Tensor2D>(kitRng('skewed'), [64, width]));
        return tensor2d(
          values.map((value) => value + 0.8),
          [64, width],
        );
      };
      const [balanced, plain] = [train, {}].map((options) =>
        Math.max(...run(router, 64, { options, x: rows(), see: loadOf })),
      );
      expect(plain).toBeGreaterThan(30);
      expect(balanced).toBeLessThan(22);
    });
  });
});
