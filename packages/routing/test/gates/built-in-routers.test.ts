/** What every built-in router must do, table-driven over `builtInRouters`: a new one is tested by being listed there. */
import { isMoebiusError } from '@moebius/core';
import { createEngine, disposeTree, ones, tensor, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { builtInRouters } from '../../src/gates/index.ts';
import type { Route, Router, RouterOptions, RouterParameters } from '../../src/index.ts';
import type { RouteGradients } from '../../src/expert-executor.ts';
import { describeRouter, withoutLeak } from '../../src/testing/index.ts';
import { kitRng, randomTensor, randomValues, valuesOf } from '../../src/testing/checks.ts';
import { builtInVariants, place } from './built-in-variants.ts';

beforeAll(async () => {
  await createEngine();
});

const modelWidth = place.modelWidth;
const variants = builtInVariants();

for (const { router, title, kit } of variants) describeRouter(router, { describe, it, title, ...kit });

function parametersOf(router: Router): RouterParameters {
  const rng = kitRng(`built-in ${router.name}`);
  return Object.fromEntries(
    Object.entries(router.parameterShapes(modelWidth)).map(([name, shape]) => {
      const request = { shape, rng: rng.fork(name), standardDeviation: 1 };
      const given = router.initialise?.(name, request);
      return [name, given === undefined ? randomTensor(request.rng, shape) : tensor(given, [...shape])];
    }),
  );
}

function buffersOf(router: Router): Record<string, Float32Array> {
  return Object.fromEntries(
    Object.entries(router.bufferShapes()).map(([name, shape]) => {
      const length = shape.reduce((size, axis) => size * axis, 1);
      return [name, router.initialiseBuffer?.(name, length) ?? new Float32Array(length)];
    }),
  );
}

/** As a model runs it in training. */
function optionsOf(router: Router, tokens: number, more: Partial<RouterOptions> = {}): RouterOptions {
  return {
    layer: 3,
    phase: 'train',
    rng: kitRng('draws'),
    sequences: 1,
    ids: Int32Array.from({ length: tokens }, (_, t) => (5 * t) % 11),
    positions: Int32Array.from({ length: tokens }, (_, t) => t),
    domain: new Int32Array(tokens),
    buffers: buffersOf(router),
    ...more,
  };
}

/** A gradient of random numbers for every tensor of a route. */
function gradientOf(route: Route): RouteGradients {
  const like = (source: Tensor, i: number): Tensor =>
    tensor(randomValues(kitRng(`gradient ${i}`), source.size), source.shape);
  if (route.kind === 'pairs') return { kind: 'pairs', weights: like(route.weights, 0) as never };
  if (route.kind === 'merge') return { kind: 'merge', mix: like(route.mix, 0) as never };
  const [dispatch, combine] = [route.dispatch, route.combine].map(like);
  return { kind: 'slots', dispatch: dispatch as never, combine: combine as never };
}

describe('gradients of built-in routers', () => {
  for (const { router, title, untrained } of variants) {
    it(`reach every parameter that should have one and no other: ${title}`, () => {
      withoutLeak(title, () => {
        const x = randomTensor<Tensor2D>(kitRng('x'), [24, modelWidth]);
        const parameters = parametersOf(router);
        const options = optionsOf(router, 24);
        const buffers = structuredClone(options.buffers);
        const output = router.forward(x, parameters, options);
        const route = gradientOf(output.route);
        const gradients = router.backward(output.saved, { route });
        expect(Object.keys(gradients.parameters).toSorted()).toEqual(Object.keys(parameters).toSorted());
        const reached = Object.entries(gradients.parameters)
          .filter(([, gradient]) => valuesOf(gradient).some((value) => value !== 0))
          .map(([name]) => name);
        const expected = Object.keys(parameters).filter((name) => !untrained.includes(name));
        expect(reached.toSorted()).toEqual(expected.toSorted());
        expect(Object.values(gradients.parameters).flatMap((entry) => [...valuesOf(entry)])).not.toContain(
          NaN,
        );
        expect(options.buffers).toEqual(buffers);
        disposeTree([x, parameters, output, route, gradients]);
      });
    });
  }
});

/** The error that a call throws. */
function errorOf(call: () => unknown): { code: string; message: string } | null {
  try {
    disposeTree(call());
  } catch (error) {
    if (isMoebiusError(error)) return { code: error.code, message: error.message };
    throw error;
  }
  return null;
}

describe('bad input to built-in routers', () => {
  for (const factory of builtInRouters()) {
    const { name } = factory;

    it(`${name}: more experts of a token than experts are refused, or do not matter`, () => {
      const error = errorOf(() => {
        const { topK } = factory.create({ ...place, experts: 4, topK: 9 }, {});
        expect(topK).toBeLessThanOrEqual(4);
      });
      if (error === null) return;
      expect(['configuration', 'plugin']).toContain(error.code);
      expect(error.message).toMatch(new RegExp(`^layers\\[3\\] router "${name}" create: `));
      expect(error.message).toMatch(/must /);
    });

    it(`${name}: an option that it does not know is refused by name`, () => {
      const error = errorOf(() => factory.create(place, { wheels: 4 }));
      expect(error?.code).toBe('configuration');
      expect(error?.message).toContain('wheels');
    });

    it(`${name}: groups that do not divide the experts are refused`, () => {
      const wrong =
        name === 'top-k' || name === 'loss-free' ? { count: 3, keep: 2, score: 'max', fill: 'zero' } : 3;
      const error = errorOf(() => factory.create(place, { groups: wrong }));
      expect(error?.code).toBe('configuration');
      expect(error?.message).toMatch(/must divide experts 8|must be a known option|groups/);
    });

    const router = factory.create(place, {});
    for (const phase of ['train', 'evaluate'] as const) {
      const options = (tokens: number, more: Partial<RouterOptions> = {}): RouterOptions => {
        const { rng, ...rest } = optionsOf(router, tokens, { ...more, phase });
        return phase === 'train' && rng !== undefined ? { ...rest, rng } : rest;
      };

      it(`${name}: a NaN is refused with layer and token (${phase})`, () => {
        withoutLeak(name, () => {
          const values = randomValues(kitRng('bad'), 4 * modelWidth);
          values[2 * modelWidth] = NaN;
          const x = tensor2d(values, [4, modelWidth]);
          const parameters = parametersOf(router);
          const error = errorOf(() => router.forward(x, parameters, options(4)));
          expect(error?.code).toBe('numerics');
          expect(error?.message).toContain('layers[3]');
          // The mean row of a sequence is bad for all of its tokens.
          expect(error?.message).toContain(name === 'sentence' ? 'token 0' : 'token 2');
          disposeTree([x, parameters]);
        });
      });

      it(`${name}: an empty batch is refused (${phase})`, () => {
        withoutLeak(name, () => {
          const x = tensor2d([], [0, modelWidth]);
          const parameters = parametersOf(router);
          const error = errorOf(() => router.forward(x, parameters, options(0)));
          expect(error?.code).toBe('shape');
          expect(error?.message).toMatch(
            /x: must have at least 1 token, got 0 \(skip the layer for an empty batch\)$/,
          );
          disposeTree([x, parameters]);
        });
      });

      it(`${name}: all tokens masked route nothing, and the gradient is 0 (${phase})`, () => {
        withoutLeak(name, () => {
          const x = ones([4, modelWidth]) as Tensor2D;
          const parameters = parametersOf(router);
          const output = router.forward(x, parameters, options(4, { mask: new Uint8Array(4) }));
          if (output.route.kind === 'pairs') {
            expect(output.route.plan.stats.pairs).toBe(0);
            const route = gradientOf(output.route);
            const gradients = router.backward(output.saved, { route });
            const values = [gradients.dx, ...Object.values(gradients.parameters)].flatMap((entry) => [
              ...valuesOf(entry),
            ]);
            expect(values.every((value) => value === 0)).toBe(true);
            disposeTree([route, gradients]);
          }
          disposeTree([x, parameters, output]);
        });
      });
    }
  }
});
