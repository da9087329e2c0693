import { createEngine } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { checkGradient, withoutLeak } from '../src/testing/index.ts';
import { inner, kitRng, randomValues } from '../src/testing/checks.ts';
import { families } from './gate-families.ts';
import { homogeneous, mixed, randomLayer, runLayer, shapesOf } from './moe-layer.ts';
import type { LayerSetup } from './moe-layer.ts';

beforeAll(async () => {
  await createEngine();
});

const mask = Uint8Array.of(1, 1, 0, 1, 1, 1);

/** Unit directions in which the objective is differentiated: more of them where selection depends on the tensor. */
function directionsOf(subject: string, size: number): Float32Array[] {
  const count = subject.startsWith('experts.') ? 1 : 6;
  return Array.from({ length: count }, (_, d) => {
    const along = randomValues(kitRng(`${subject} ${d}`), size);
    const length = Math.sqrt(inner(along, along));
    return along.map((value) => value / length);
  });
}

const setups: [string, LayerSetup][] = Object.entries(families).flatMap(
  ([name, gate]): [string, LayerSetup][] => [
    [`${name}, gated experts`, { gate, kinds: homogeneous }],
    [`${name}, mixed experts, padded`, { gate, kinds: mixed, mask }],
  ],
);

describe('a whole routed layer: router, executor and losses', () => {
  for (const [name, setup] of setups) {
    it(`has the gradients of its objective: ${name}`, () => {
      withoutLeak(name, () => {
        const values = randomLayer(setup);
        const { gradients, routed } = runLayer(setup, values, true);
        expect(Object.keys(gradients).toSorted()).toEqual(Object.keys(shapesOf(setup)).toSorted());
        for (const subject of Object.keys(gradients)) {
          const directions = directionsOf(subject, values[subject]!.length);
          checkGradient(
            directions.map((along) => inner(gradients[subject]!, along)),
            {
              subject: `${subject}, along direction`,
              at: new Float32Array(directions.length),
              f: (steps) => {
                const moved = values[subject]!.map((value, i) =>
                  directions.reduce((sum, along, d) => sum + steps[d]! * along[i]!, value),
                );
                const pass = runLayer(setup, { ...values, [subject]: moved }, false);
                return pass.routed === routed ? pass.objective : NaN;
              },
              relative: 2e-3,
              absolute: 1e-3,
            },
          );
        }
      });
    });
  }

  it('gives the same bytes twice, and the same numbers on both paths', () => {
    for (const [, setup] of setups) {
      const values = randomLayer(setup);
      const [first, second] = [runLayer(setup, values, true), runLayer(setup, values, true)];
      expect(second).toEqual(first);
      const general = runLayer({ ...setup, path: 'general' }, values, true);
      expect(general.objective).toBeCloseTo(first.objective, 4);
      for (const [name, gradient] of Object.entries(first.gradients)) {
        for (const [i, value] of gradient.entries())
          expect(Math.abs(general.gradients[name]![i]! - value)).toBeLessThan(1e-4 * (1 + Math.abs(value)));
      }
    }
  });
});
