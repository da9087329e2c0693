/** Lines G11 and G12 of the coverage checklist: sums of 1; linear experts, merged, give the outputs mixed. */
import { runSync } from '@moebius/core';
import { createEngine, disposeTree, matMul, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { createLocalExecutor, createResidentSource, defineExpert, gatedExpert } from '../../src/index.ts';
import type { ExpertParameters, Route, RouterOptions } from '../../src/index.ts';
import { loryRouter, meoRouter, smearRouter, softMoeRouter } from '../../src/gates/index.ts';
import { checkClose, withoutLeak } from '../../src/testing/index.ts';
import { kitRng, randomTensor, valuesOf } from '../../src/testing/checks.ts';
import { run, valuesOfOnce, width } from './one-pass.ts';
import { make } from './routers.ts';

beforeAll(async () => {
  await createEngine();
});

describe('G11: Soft MoE', () => {
  it('has rows and columns that sum to 1, and no share between sequences', () => {
    withoutLeak('soft', () => {
      const router = make(softMoeRouter, { slots: 2 });
      const mask = Uint8Array.of(1, 1, 1, 0, 1, 1, 0, 0);
      run(router, 8, {
        options: { sequences: 2, mask },
        see: ({ route }) => {
          if (route.kind !== 'slots') throw new Error('slots expected');
          expect(route.dispatch.shape).toEqual([8, 24]);
          const [dispatch, combine] = [valuesOf(route.dispatch), valuesOf(route.combine)];
          for (let s = 0; s < 24; s += 1) {
            const own = Math.floor((s % 4) / 2);
            const column = Array.from({ length: 8 }, (_, t) => dispatch[t * 24 + s]!);
            checkClose([column.reduce((a, b) => a + b, 0)], [1], `dispatch column ${s}`);
            for (const [t, share] of column.entries())
              if (Math.floor(t / 4) !== own || mask[t] === 0) expect(share).toBe(0);
          }
          for (let t = 0; t < 8; t += 1) {
            const row = combine.subarray(t * 24, t * 24 + 24);
            checkClose([row.reduce((a, b) => a + b, 0)], [mask[t]!], `combine row ${t}`);
          }
        },
      });
    });
  });

  it('a batch of sequences is the sequences one by one', () => {
    withoutLeak('soft', () => {
      const router = make(softMoeRouter, { slots: 2 });
      const rows = valuesOfOnce(randomTensor<Tensor2D>(kitRng('two sequences'), [6, width]));
      const layer = (from: number, to: number, sequences: number): Float32Array => {
        const x = tensor2d(rows.slice(from * width, to * width), [to - from, width]);
        return run(router, to - from, {
          x,
          options: { sequences },
          see: ({ route }) => outputOf(route, x, 6),
        });
      };
      const [both, first, second] = [layer(0, 6, 2), layer(0, 3, 1), layer(3, 6, 1)];
      checkClose(both, [...first, ...second], 'y');
    });
  });
});

/** The output of a layer of gated experts. */
function outputOf(route: Route, hidden: Tensor2D, count: number): Float32Array {
  const kinds = Array.from({ length: count }, () => gatedExpert());
  const parameters = kinds.map((_, e): ExpertParameters => {
    const part = (name: string): Tensor2D => randomTensor(kitRng(`${name} ${e}`), [4, width]);
    return { gate: part('gate'), up: part('up'), down: part('down') };
  });
  const experts = createResidentSource({ kinds, read: (_, e) => parameters[e]! });
  const { y, saved } = runSync(createLocalExecutor().forward({ layer: 0, hidden, route, experts }));
  const values = valuesOf(y);
  disposeTree([parameters, y, saved]);
  return values;
}

describe('G12: merging experts', () => {
  /** `y = x W`: the one kind for which merging parameters is mixing outputs. */
  const linear = defineExpert({
    name: 'linear',
    parts: { weight: ['D', 'D'] },
    neuronAxis: null,
    forward: (x, { weight }) => ({ value: matMul<Tensor2D>(x, weight as Tensor2D), saved: null }),
    backward: () => {
      throw new Error('not asked for');
    },
    flops: () => 0,
  });

  for (const [title, router] of Object.entries({
    smear: make(smearRouter),
    meo: make(meoRouter),
    lory: make(loryRouter, { segment: 2 }),
  })) {
    it(`linear experts: ${title} equals the outputs of the experts, mixed`, () => {
      withoutLeak(title, () => {
        const x = randomTensor<Tensor2D>(kitRng('merge rows'), [8, width]);
        const weights = Array.from({ length: 6 }, (_, e) =>
          randomTensor<Tensor2D>(kitRng(`linear ${e}`), [width, width]),
        );
        const experts = createResidentSource({
          kinds: weights.map(() => linear),
          read: (_, e) => ({ weight: weights[e]! }),
        });
        const outputs = weights.map((weight) => valuesOfOnce(matMul<Tensor2D>(x, weight)));
        run(router, 8, {
          x,
          options: { sequences: 2 },
          see: ({ route }) => {
            if (route.kind !== 'merge') throw new Error('merge expected');
            const { y, saved } = runSync(
              createLocalExecutor().forward({ layer: 0, hidden: x, route, experts }),
            );
            const mix = valuesOf(route.mix);
            const expected = Float64Array.from({ length: 8 * width }, (_, i) => {
              const g = route.group[Math.floor(i / width)]!;
              return outputs.reduce((sum, output, e) => sum + mix[g * 6 + e]! * output[i]!, 0);
            });
            checkClose(valuesOf(y), expected, 'y');
            disposeTree([y, saved]);
          },
        });
        disposeTree(weights);
      });
    });
  }

  it('Lory: a segment is merged by the one before it, the first evenly, or by itself without a gradient', () => {
    withoutLeak('lory', () => {
      const mixOf = (options: object, context: RouterOptions, change = 1): number[][] => {
        const rows = valuesOfOnce(randomTensor<Tensor2D>(kitRng('segments'), [6, width]));
        const x = tensor2d(
          rows.map((value, i) => (i >= 4 * width ? change * value : value)),
          [6, width],
        );
        return run(make(loryRouter, { segment: 2, ...options }), 6, {
          x,
          options: context,
          see: ({ route }) => {
            if (route.kind !== 'merge') throw new Error('merge expected');
            const mix = valuesOf(route.mix);
            return [...route.group].map((g) => [...mix.subarray(6 * g, 6 * g + 6)]);
          },
        });
      };
      const plain = mixOf({}, {});
      for (const share of plain[0]!) expect(share).toBeCloseTo(1 / 6, 6);
      expect(plain[0]).toEqual(plain[1]);
      expect(plain[2]).not.toEqual(plain[0]);
      expect(mixOf({}, {}, -3)).toEqual(plain);
      const self = mixOf({ first: 'self' }, {});
      expect(self[0]).not.toEqual(plain[0]);
      expect(self.slice(2)).toEqual(plain.slice(2));
      const twoSequences = mixOf({}, { sequences: 2 });
      for (const share of twoSequences[3]!) expect(share).toBeCloseTo(1 / 6, 6);
      const decoding = mixOf({}, { sequences: 6, phase: 'decode' });
      expect(decoding[0]).not.toEqual(decoding[1]);
    });
  });

  it('Lory: no gradient comes from the mix of a first segment that reads itself', () => {
    withoutLeak('lory', () => {
      const router = make(loryRouter, { segment: 3, first: 'self' });
      const x = randomTensor<Tensor2D>(kitRng('rows'), [3, width]);
      const weight = randomTensor<Tensor2D>(kitRng('weight'), [6, width]);
      const output = router.forward(x, { weight }, {});
      const dmix = randomTensor<Tensor2D>(kitRng('dmix'), [1, 6]);
      const { dx, parameters } = router.backward(output.saved, { route: { kind: 'merge', mix: dmix } });
      expect(valuesOf(dx).every((value) => value === 0)).toBe(true);
      expect(valuesOf(parameters['weight']!).every((value) => value === 0)).toBe(true);
      disposeTree([x, weight, output, dmix, dx, parameters]);
    });
  });
});
