import { createRng } from '@moebius/core';
import { createEngine, disposeTree, tensor1d, tensor2d } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { sparseMixer, sparseMixerRouter } from '../../src/experimental/index.ts';
import type { SparseMixerOptions } from '../../src/experimental/index.ts';
import { valuesOf, withoutLeak } from '../../src/testing/checks.ts';
import { checkClose, describeRouter } from '../../src/testing/index.ts';

beforeAll(async () => {
  await createEngine();
});

const api = { describe, it };
describeRouter(sparseMixerRouter({ experts: 5, jitter: 10, estimator: 'plain' }), {
  ...api,
  title: 'sparse-mixer, all survive',
});
describeRouter(sparseMixerRouter({ experts: 5, jitter: 0.4, topK: 3, estimator: 'plain' }), {
  ...api,
  title: 'sparse-mixer, a band',
});
// The estimators are, on purpose, not the derivative of their forward pass: everything else must hold.
for (const estimator of ['heun', 'mid-point'] as const) {
  describeRouter(sparseMixerRouter({ experts: 5, jitter: 10, estimator }), {
    describe,
    it: (name, body) => (name === 'has the gradients of its forward' ? undefined : it(name, body)),
    title: `sparse-mixer, ${estimator}`,
  });
}

const logits = [0.7, 0.2, -0.4];
const pi = softmax(logits);

function softmax(z: readonly number[]): number[] {
  const exp = z.map(Math.exp);
  const total = exp.reduce((a, b) => a + b, 0);
  return exp.map((value) => value / total);
}

/** `∂π_e/∂z`. */
function slopeOf(e: number): number[] {
  return pi.map((p, j) => pi[e]! * ((e === j ? 1 : 0) - p));
}

/** Mean over many tokens of the router's gradient of the logits, when the loss of expert e at multiplier m has the slope given. */
function meanEstimate(
  options: Omit<SparseMixerOptions, 'experts' | 'topK'>,
  slope: (expert: number, multiplier: number) => number,
): number[] {
  const tokens = 40_000;
  const router = sparseMixerRouter({ experts: 3, topK: 1, jitter: 100, ...options });
  // One number a row: the logits are the router's weights.
  const x = tensor2d(new Float32Array(tokens).fill(1), [tokens, 1]);
  const weight = tensor2d(logits, [3, 1]);
  const output = router.forward(x, { weight }, { phase: 'train', rng: createRng(11) });
  if (output.route.kind !== 'pairs') throw new TypeError('pairs');
  const { plan, weights } = output.route;
  const multipliers = valuesOf(weights);
  const upstream = tensor1d(Float32Array.from(multipliers, (m, n) => slope(plan.source[n]! % 3, m) / tokens));
  const gradients = router.backward(output.saved, { route: { kind: 'pairs', weights: upstream } });
  const estimate = [...valuesOf(gradients.parameters['weight']!)];
  disposeTree([x, weight, output, upstream, gradients]);
  return estimate;
}

/** `Σ_e L_e(π_e) ∂π_e/∂z`: the gradient of the expected loss through the draw. */
function throughTheDraw(loss: (expert: number, multiplier: number) => number): number[] {
  return logits.map((_, j) => pi.reduce((sum, p, e) => sum + loss(e, p) * slopeOf(e)[j]!, 0));
}

const output = [1.5, -2, 3];
const target = 0.8;

describe('SparseMixer estimates the gradient through the draw', () => {
  // 40,000 draws of terms below 1: a standard error below 0.005; seeded.
  const tolerance = { relative: 0, absolute: 0.015 };

  it('exactly in the mean for a loss that is linear in the weight', () => {
    withoutLeak('linear', () => {
      for (const estimator of ['mid-point', 'heun', 'plain'] as const) {
        const estimate = meanEstimate({ estimator }, (e) => output[e]!);
        checkClose(
          estimate,
          throughTheDraw((e, m) => output[e]! * m),
          estimator,
          tolerance,
        );
      }
    });
  });

  it('by its mean over draws as documented, for a quadratic loss', () => {
    withoutLeak('quadratic', () => {
      const slope = (e: number, m: number): number => 2 * output[e]! * (output[e]! * m - target);
      const estimate = meanEstimate({ estimator: 'mid-point' }, slope);
      const documented = logits.map((_, j) =>
        pi.reduce((sum, p, e) => sum + p * slope(e, (e === 0 ? 1 : 0.5) * p) * slopeOf(e)[j]!, 0),
      );
      checkClose(estimate, documented, 'mid-point', tolerance);
    });
  });

  it('with an error of the best expert’s step only: mid-point for a quadratic loss, heun for a cubic one', () => {
    withoutLeak('orders', () => {
      const losses = [
        {
          estimator: 'mid-point' as const,
          loss: (e: number, m: number): number => (output[e]! * m - target) ** 2,
          slope: (e: number, m: number): number => 2 * output[e]! * (output[e]! * m - target),
        },
        {
          estimator: 'heun' as const,
          loss: (e: number, m: number): number => (output[e]! * m - target) ** 3,
          slope: (e: number, m: number): number => 3 * output[e]! * (output[e]! * m - target) ** 2,
        },
      ];
      for (const { estimator, loss, slope } of losses) {
        const estimate = meanEstimate({ estimator }, slope);
        const step = pi[0]! * slope(0, pi[0]!) - (loss(0, pi[0]!) - loss(0, 0));
        const expected = throughTheDraw(loss).map((value, j) => value + step * slopeOf(0)[j]!);
        checkClose(estimate, expected, estimator, { relative: 0, absolute: 0.04 });
      }
    });
  });

  it('and the plain gradient of a quadratic loss is not that: the test would see it', () => {
    withoutLeak('plain', () => {
      const slope = (e: number, m: number): number => 2 * output[e]! * (output[e]! * m - target);
      const [plain, middle] = (['plain', 'mid-point'] as const).map((estimator) =>
        meanEstimate({ estimator }, slope),
      );
      expect(Math.max(...plain!.map((value, i) => Math.abs(value - middle![i]!)))).toBeGreaterThan(0.05);
    });
  });
});

describe('sparse-mixer', () => {
  it('outside training takes Phi-3.5’s two experts and weights', () => {
    withoutLeak('inference', () => {
      const row = [2, 1.99, 1.2, -1, 1.95];
      const x = tensor2d([[1]]);
      const weight = tensor2d(row, [5, 1]);
      const { route, ...rest } = sparseMixerRouter({ experts: 5, jitter: 0.01 }).forward(x, { weight }, {});
      if (route.kind !== 'pairs') throw new TypeError('pairs');
      // Within 2 %: of 2 only 1.99; of 1.99 without it none but 1.95 is further than 2 %: (1.99 − 1.95) / 1.99 = 0.0201.
      expect([...route.plan.source]).toEqual([0, 1]);
      const first = 1 / (1 + Math.exp(-0.01));
      checkClose(valuesOf(route.weights), [first, 1], 'weights', { relative: 1e-5, absolute: 1e-6 });
      disposeTree([x, weight, route.weights, rest]);
    });
  });

  it('is a router by name, and refuses what it cannot be', () => {
    const place = { layer: 1, place: 0, sparseLayers: 1, experts: 8, topK: 2, modelWidth: 8 };
    expect(sparseMixer.create(place, { estimator: 'heun' }).topK).toBe(2);
    expect(() => sparseMixerRouter({ experts: 2, topK: 3, jitter: 0 })).toThrow(
      /^sparse-mixer: must be a valid configuration, got \d faults?:\n/,
    );
  });
});
