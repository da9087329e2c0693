import { createRng } from '@moebius/core';
import { createEngine, disposeTree, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { distilRouteBackward, distilRouteForward, stableMoeRouter } from '../../src/experimental/index.ts';
import type { LightRouter, StableMoeOptions } from '../../src/experimental/index.ts';
import type { RouterBuffers, RouterOutput, RouterParameters } from '../../src/index.ts';
import { inner, kitRng, randomTensor, valuesOf, withoutLeak } from '../../src/testing/checks.ts';
import { checkClose, checkGradient, describeRouter } from '../../src/testing/index.ts';

const api = { describe, it };
const [tokens, width, experts, vocabulary, light] = [6, 5, 4, 11, 3];
const settings = { experts, vocabulary, width: light };
const ids = Int32Array.of(0, 5, 10, 4, 9, 3);

beforeAll(async () => {
  await createEngine();
});

describeRouter(stableMoeRouter({ ...settings, stage: 1, distillation: 0 }), {
  ...api,
  title: 'stable-moe, stage 1',
});
describeRouter(stableMoeRouter({ ...settings, stage: 2 }), { ...api, title: 'stable-moe, stage 2' });

function createParameters(): RouterParameters & LightRouter & { weight: Tensor2D } {
  return {
    weight: randomTensor<Tensor2D>(kitRng('weight'), [experts, width]),
    lightEmbedding: randomTensor<Tensor2D>(kitRng('embedding'), [vocabulary, light]),
    lightCentroids: randomTensor<Tensor2D>(kitRng('centroids'), [experts, light]),
  };
}

function chosenOf({ route }: RouterOutput): number[] {
  if (route.kind !== 'pairs') throw new TypeError('pairs');
  const { plan } = route;
  return Array.from(plan.slot, (n) => plan.source[n]! % experts);
}

describe('G13: StableMoE', () => {
  it('stage 1 sends a token to its best centroid with σ of the score', () => {
    withoutLeak('stage 1', () => {
      const parameters = createParameters();
      const x = randomTensor<Tensor2D>(kitRng('x'), [tokens, width]);
      const output = stableMoeRouter({ ...settings, stage: 1 }).forward(x, parameters, { ids });
      const [rows, centroids] = [valuesOf(x), valuesOf(parameters.weight)];
      const scores = Array.from({ length: tokens }, (_, t) =>
        Array.from({ length: experts }, (_unused, e) =>
          inner(rows.subarray(t * width, (t + 1) * width), centroids.subarray(e * width, (e + 1) * width)),
        ),
      );
      const best = scores.map((row) => row.indexOf(Math.max(...row)));
      expect(chosenOf(output)).toEqual(best);
      const { route } = output;
      if (route.kind !== 'pairs') throw new TypeError('pairs');
      const weights = Array.from(route.plan.token, (t) => 1 / (1 + Math.exp(-scores[t]![best[t]!]!)));
      checkClose(valuesOf(route.weights), weights, 'weights', { relative: 1e-5, absolute: 1e-6 });
      disposeTree([parameters, x, output]);
    });
  });

  it('the light router learns by cross-entropy in training only, and moves nothing else', () => {
    withoutLeak('distillation', () => {
      const parameters = createParameters();
      const x = randomTensor<Tensor2D>(kitRng('x'), [tokens, width]);
      const router = stableMoeRouter({ ...settings, stage: 1, distillation: 0.5 });
      const mask = Uint8Array.of(1, 1, 0, 1, 1, 1);
      const gradientsIn = (phase: 'train' | 'evaluate'): Record<string, number[]> => {
        const output = router.forward(x, parameters, { ids, mask, phase, rng: createRng(1) });
        const gradients = router.backward(output.saved, {});
        const values = Object.fromEntries(
          Object.entries({ ...gradients.parameters, dx: gradients.dx }).map(([name, tensor]) => [
            name,
            [...valuesOf(tensor)],
          ]),
        );
        disposeTree([output, gradients]);
        return values;
      };
      const evaluated = gradientsIn('evaluate');
      expect(
        Object.values(evaluated)
          .flat()
          .every((value) => value === 0),
      ).toBe(true);
      const trained = gradientsIn('train');
      expect([...trained['weight']!, ...trained['dx']!].every((value) => value === 0)).toBe(true);
      const output = router.forward(x, parameters, { ids });
      const experts_T = Int32Array.from(chosenOf(output), (e, t) => (t === 2 ? -1 : e));
      const { value, saved } = distilRouteForward(parameters, { ids, experts: experts_T });
      const alone = distilRouteBackward(saved, 0.5);
      checkClose(trained['lightEmbedding']!, valuesOf(alone.lightEmbedding), 'embedding');
      checkClose(trained['lightCentroids']!, valuesOf(alone.lightCentroids), 'centroids');
      disposeTree([parameters, x, output, value, saved, alone]);
    });
  });

  it('the distillation loss has its gradient', () => {
    withoutLeak('cross-entropy', () => {
      const { weight, ...parameters } = createParameters();
      const seen = { ids, experts: Int32Array.of(0, 3, 1, -1, 2, 2) };
      const { value, saved } = distilRouteForward(parameters, seen);
      const gradients = distilRouteBackward(saved);
      for (const name of ['lightEmbedding', 'lightCentroids'] as const) {
        const at = parameters[name];
        checkGradient(valuesOf(gradients[name]), {
          subject: name,
          at: valuesOf(at),
          f: (values) => {
            const moved = tensor2d(values, at.shape);
            const run = distilRouteForward({ ...parameters, [name]: moved }, seen);
            const [loss] = valuesOf(run.value);
            disposeTree([moved, run]);
            return loss!;
          },
        });
      }
      disposeTree([weight, parameters, value, saved, gradients]);
    });
  });

  it('the frozen gate of stage 2 has no gradient: it is no parameter, and it is stage 1’s under the same names', () => {
    withoutLeak('stage 2', () => {
      const [one, two] = ([1, 2] as const).map((stage) => stableMoeRouter({ ...settings, stage }));
      expect(Object.keys(two!.parameterShapes(width))).toEqual(['weight']);
      const { weight: _weight, ...lightShapes } = one!.parameterShapes(width);
      expect(two!.bufferShapes()).toEqual(lightShapes);
      expect(two!.advance).toBeUndefined();
      const { weight, lightEmbedding, lightCentroids } = createParameters();
      const buffers: RouterBuffers = {
        lightEmbedding: valuesOf(lightEmbedding),
        lightCentroids: valuesOf(lightCentroids),
      };
      const [x, other] = ['x', 'other'].map((name) => randomTensor<Tensor2D>(kitRng(name), [tokens, width]));
      const [first, second] = [x!, other!].map((rows) => two!.forward(rows, { weight }, { ids, buffers }));
      expect(chosenOf(second!)).toEqual(chosenOf(first!));
      const expected = Array.from(ids, (id) => {
        const row = buffers['lightEmbedding']!.subarray(id * light, (id + 1) * light);
        const products = Array.from({ length: experts }, (_, e) =>
          inner(row, buffers['lightCentroids']!.subarray(e * light, (e + 1) * light)),
        );
        return products.indexOf(Math.max(...products));
      });
      expect(chosenOf(first!)).toEqual(expected);
      disposeTree([weight, lightEmbedding, lightCentroids, x, other, first, second]);
    });
  });

  it('refuses missing and unknown ids, and settings that cannot be', () => {
    withoutLeak('faults', () => {
      const { weight, lightEmbedding, lightCentroids } = createParameters();
      const buffers = { lightEmbedding: valuesOf(lightEmbedding), lightCentroids: valuesOf(lightCentroids) };
      const x = randomTensor<Tensor2D>(kitRng('x'), [tokens, width]);
      const router = stableMoeRouter({ ...settings, stage: 2 });
      expect(() => router.forward(x, { weight }, { buffers })).toThrow(
        'router "stable-moe": token ids must be given for 6 tokens, got none (run it in a model, or pass ids)',
      );
      expect(() => router.forward(x, { weight }, { buffers, ids: ids.with(1, 11) })).toThrow(
        'router "stable-moe": token ids must be in 0…10, got 11',
      );
      disposeTree([weight, lightEmbedding, lightCentroids, x]);
    });
    expect(() => stableMoeRouter({ experts: 4, stage: 3 } as unknown as StableMoeOptions)).toThrow(
      /^stable-moe: must be a valid configuration, got 2 faults:/,
    );
  });
});
