/** The acceptance tests of the survey's gating leaves: G5 scores, G6 selection bias, G8 a variable number of experts. */
import { createEngine, disposeTree, eye, tensor, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { advanceRouter } from '../../src/index.ts';
import type { RouterSettings } from '../../src/index.ts';
import { kitRng, randomTensor, randomValues, valuesOf } from '../../src/testing/checks.ts';
import { withoutLeak } from '../../src/testing/index.ts';
import { expectWeights, experts, made, route, z } from './route-rows.ts';
import type { Weights } from './route-rows.ts';

beforeAll(async () => {
  await createEngine();
});

describe('G5 scores', () => {
  it('cosine and normalised logits do not change when a row is scaled', () => {
    for (const name of ['cosine', 'normalised-logits', 'adaptive-threshold']) {
      const router = made(name);
      const rng = kitRng(`scaling ${name}`);
      const parameters = Object.fromEntries(
        Object.entries(router.parameterShapes(experts)).map(([key, shape]) => [
          key,
          randomTensor(rng.fork(key), shape, 0.5),
        ]),
      );
      const [one, ten, tenth] = [1, 10, 0.1].map((factor) =>
        route(router, [z.map((value) => value * factor)], { parameters }),
      );
      for (const other of [ten, tenth]) expectWeights(other?.[0], one?.[0] ?? {});
      disposeTree(parameters);
    }
  });

  it('sigmoid and √softplus weigh as on paper', () => {
    const sigmoid = made('loss-free', { renormalise: false });
    const options = { buffers: { selectionBias: new Float32Array(experts) } };
    expectWeights(route(sigmoid, [z], { options })[0], { 3: 0.880797, 5: 0.869892 });
    const root = made('top-k', { score: 'sqrt-softplus' });
    expectWeights(route(root, [z])[0], {
      3: Math.sqrt(Math.log(1 + Math.exp(2))),
      5: Math.sqrt(Math.log(1 + Math.exp(1.9))),
    });
  });

  it('cosine divides by its temperature, up to the largest factor', () => {
    const router = made('cosine', { dimension: experts, temperature: 0.25, maxScale: 10, topK: experts });
    const logit = (scale: number): number[] => {
      const parameters = {
        weight: eye(experts),
        project: eye(experts),
        log_scale: tensor([Math.log(scale)]),
      };
      const x = tensor2d([z]);
      const output = router.forward(x, parameters, {});
      const values = [...valuesOf(output.logits)];
      disposeTree([x, parameters, output]);
      return values;
    };
    const length = Math.sqrt(z.reduce((sum, value) => sum + value * value, 0));
    for (const [e, value] of z.entries()) {
      expect(logit(4)[e]).toBeCloseTo((4 * value) / length, 4);
      expect(logit(1000)[e]).toBeCloseTo((10 * value) / length, 4);
    }
    const request = { shape: [1], rng: kitRng('begin'), standardDeviation: 1 };
    expect(router.initialise?.('log_scale', request)[0]).toBeCloseTo(Math.log(4), 6);
  });
});

describe('G6 selection bias', () => {
  const router = made('loss-free', { rate: 0.01 });
  const biased = (bias: readonly number[], rows: readonly (readonly number[])[]): Weights =>
    route(router, rows, { options: { buffers: { selectionBias: Float32Array.from(bias) } } });

  it('chooses and never weighs; a constant shift changes nothing', () => {
    const bias = [0, 0.05, -0.02, -0.3, 0.4, 0, 0.1, -0.05];
    const [weights = {}] = biased(bias, [z]);
    const sigmoid = (value: number): number => 1 / (1 + Math.exp(-value));
    // Σ of the biased scores: 4 and 5 win against 3, whose own is the largest.
    const total = sigmoid(z[4]!) + sigmoid(z[5]!);
    expectWeights(weights, { 4: sigmoid(z[4]!) / total, 5: sigmoid(z[5]!) / total });
    expect(
      biased(
        bias.map((value) => value + 0.5),
        [z],
      ),
    ).toEqual([weights]);
  });

  it('moves by γ·sign(mean - load), or in proportion, and not at all where nothing was routed', () => {
    const seen = { load: Float64Array.of(8, 0, 4, 4, 4, 4, 4, 4), layer: 0, step: 1 };
    const before = { selectionBias: new Float32Array(experts) };
    const moved = (update: string, load = seen.load): number[] => {
      const own = made('loss-free', { rate: 0.01, update });
      return [...advanceRouter(own, before, { ...seen, load })['selectionBias']!];
    };
    const [down, up] = [Math.fround(-0.01), Math.fround(0.01)];
    expect(moved('sign')).toEqual([down, up, 0, 0, 0, 0, 0, 0]);
    expect(moved('sign', Float64Array.of(6, 1, 4, 4, 4, 4, 4, 5))).toEqual([down, up, 0, 0, 0, 0, 0, down]);
    expect(moved('proportional', Float64Array.of(6, 2, 4, 4, 4, 4, 4, 4))).toEqual([
      Math.fround(-0.005),
      Math.fround(0.005),
      ...new Float32Array(6),
    ]);
    expect(moved('sign', new Float64Array(experts))).toEqual([...new Float32Array(experts)]);
    expect([...before.selectionBias]).toEqual([...new Float32Array(experts)]);
  });

  it('evens the load of a skewed batch, whatever padding holds', () => {
    const rows = Array.from({ length: 64 }, (_, t) =>
      randomValues(kitRng(`row ${t}`), experts).map((value, e) => value + (e === 2 ? 3 : 0)),
    ).map((row) => [...row]);
    const spread = (padding: number): { first: number; last: number; bias: number[] } => {
      const mask = Uint8Array.from(rows, (_, t) => (t % 4 === 0 ? 0 : 1));
      const padded = rows.map((row, t) => (mask[t] === 0 ? row.map(() => padding) : row));
      let buffers: Record<string, Float32Array> = { selectionBias: new Float32Array(experts) };
      const worst = Array.from({ length: 60 }, (_, step) => {
        const load = new Float64Array(experts);
        for (const weights of route(router, padded, { options: { buffers, mask } }))
          for (const e of Object.keys(weights)) load[Number(e)]! += 1;
        buffers = advanceRouter(router, buffers, { load, layer: 0, step: step + 1 });
        return Math.max(...load);
      });
      return { first: worst[0]!, last: worst.at(-1)!, bias: [...buffers['selectionBias']!] };
    };
    const one = spread(0);
    expect(one.first).toBeGreaterThan(44);
    expect(one.last).toBeLessThan(30);
    expect(spread(7).bias).toEqual(one.bias);
  });
});

describe('G8 a variable number of experts', () => {
  const countsOf = (weights: Weights): number[] => weights.map((one) => Object.keys(one).length);

  it('stays within its bounds', () => {
    const bounds: [string, RouterSettings, number, number][] = [
      ['top-p', { p: 0.6, least: 2, most: 5 }, 2, 5],
      ['relu', {}, 0, experts],
      ['dense-to-sparse', {}, 1, experts],
      ['null-experts', { nulls: 4, choose: 5 }, 1, 5],
      ['adaptive-threshold', {}, 1, experts],
    ];
    for (const [name, settings, least, most] of bounds) {
      const router = made(name, settings);
      const rng = kitRng(`bounds ${name}`);
      const parameters = Object.fromEntries(
        Object.entries(router.parameterShapes(experts)).map(([key, shape]) => [
          key,
          randomTensor(rng.fork(key), shape),
        ]),
      );
      const rows = Array.from({ length: 200 }, (_, t) => [...randomValues(rng.fork(t), experts)]);
      const counts = countsOf(route(router, rows, { parameters }));
      expect(Math.min(...counts)).toBeGreaterThanOrEqual(least);
      expect(Math.max(...counts)).toBeLessThanOrEqual(most);
      expect(new Set(counts).size).toBeGreaterThan(1);
      disposeTree(parameters);
    }
  });

  it('top-p holds the share with as few as possible', () => {
    expectWeights(route(made('top-p', { p: 0.6 }), [z])[0], { 3: 0.324126, 5: 0.293281 });
    expectWeights(route(made('top-p', { p: 0.62 }), [z])[0], { 0: 0.145639, 3: 0.324126, 5: 0.293281 });
  });

  it('ReLU weighs by the logit, and λ steers to the sparsity that was asked for', () => {
    const router = made('relu', { lambda: 1e-3 });
    expectWeights(route(router, [z])[0], { 0: 1.2, 2: 0.3, 3: 2, 5: 1.9, 7: 0.7 });
    expect([...(router.initialiseBuffer?.('lambda', 1) ?? [])]).toEqual([Math.fround(1e-3)]);
    const after = (pairs: number, tokens?: number): number => {
      const load = new Float64Array(experts).fill(pairs / experts);
      const seen = { load, layer: 0, step: 1, ...(tokens === undefined ? {} : { tokens }) };
      return advanceRouter(router, { lambda: Float32Array.of(1) }, seen)['lambda']![0]!;
    };
    // Two of eight experts for each of ten tokens are 20 pairs.
    expect(after(40, 10)).toBeCloseTo(1.2, 6);
    expect(after(8, 10)).toBeCloseTo(1 / 1.2, 6);
    expect([after(20, 10), after(40)]).toEqual([1, 1]);
  });

  it('thresholds: weights share the token, argmax in evaluation only, gradient straight through', () => {
    const router = made('adaptive-threshold', { temperature: 1 });
    const parameters = {
      weight: eye(experts),
      log_scale: tensor([0]),
      threshold: tensor([0.5, 0, 0, 0.5, 0, 0.5, 0, 0]),
    };
    const length = Math.sqrt(z.reduce((sum, value) => sum + value * value, 0));
    const cosines = z.map((value) => value / length);
    const on = [2, 3, 5, 7];
    const wanted = Object.fromEntries(on.map((e) => [e, 1 / 4]));
    expectWeights(route(router, [z], { parameters })[0], wanted);
    const low = z.map((value) => -Math.abs(value) - 0.1);
    expect(countsOf(route(router, [low], { parameters, options: { phase: 'train' } }))).toEqual([0]);
    expectWeights(route(router, [low], { parameters })[0], { 4: 1 });

    const x = tensor2d([z]) as Tensor2D;
    const output = router.forward(x, parameters, {});
    const dweights = tensor([1, 2, 3, 4]);
    const gradients = router.backward(output.saved, { route: { kind: 'pairs', weights: dweights as never } });
    const slope = (value: number): number => {
      const s = 1 / (1 + Math.exp(-value));
      return s * (1 - s);
    };
    const dthreshold = valuesOf(gradients.parameters['threshold']!);
    const limits = valuesOf(parameters.threshold);
    for (const e of z.keys()) {
      const at = on.indexOf(e);
      const expected = at < 0 ? 0 : (-(at + 1) / 4) * slope(limits[e]!);
      expect(dthreshold[e]).toBeCloseTo(expected, 5);
    }
    // Along log_scale every cosine grows in proportion: Σ dw/n · σ'(τ cos) · cos.
    const along = on.reduce((sum, e, i) => sum + ((i + 1) / 4) * slope(cosines[e]!) * cosines[e]!, 0);
    expect(valuesOf(gradients.parameters['log_scale']!)[0]).toBeCloseTo(along, 4);
    disposeTree([x, parameters, output, dweights, gradients]);
  });

  it('null experts take a place and no weight', () => {
    const router = made('null-experts', { nulls: 1, choose: 3 });
    const weight = tensor2d(
      Float32Array.from({ length: 72 }, (_, i) => (i % 9 === 0 && i < 64 ? 1 : i === 64 + 3 ? 0.99 : 0)),
      [9, 8],
    );
    // Columns 3 (2.0), null (1.98), 5 (1.9).
    expectWeights(route(router, [z], { parameters: { weight } })[0], { 3: 0.524979, 5: 0.475021 });
    weight.dispose();
  });

  it('gets sparse as its temperature falls', () => {
    const router = made('dense-to-sparse', { from: 5, to: 0.1, steps: 10, gumbel: false, threshold: 0.05 });
    const counts = [0, 8, 10, 50].map((step) =>
      countsOf(route(router, [z], { options: { buffers: { step: Float32Array.of(step) } } })).at(0),
    );
    expect(counts[0]).toBe(8);
    expect(counts[2]).toBe(2);
    expect(counts[3]).toBe(2);
    expect(counts[1]!).toBeLessThan(8);
    expect(counts[1]!).toBeGreaterThan(2);
  });

  it('Switch with straight-through weight scales by 1 and learns as if by p', () => {
    withoutLeak('straight-through', () => {
      const x = tensor2d([z]);
      const parameters = { weight: eye(experts) };
      const dweights = tensor([3]);
      const both = (['straight-through', 'probability'] as const).map((weight) => {
        const router = made('switch', { weight });
        const output = router.forward(x, parameters, {});
        const value = output.route.kind === 'pairs' ? valuesOf(output.route.weights)[0]! : NaN;
        const gradients = router.backward(output.saved, {
          route: { kind: 'pairs', weights: dweights as never },
        });
        const dx = [...valuesOf(gradients.dx)];
        disposeTree([output, gradients]);
        return { value, dx };
      });
      expect(both[0]?.value).toBe(1);
      expect(both[1]?.value).toBeCloseTo(0.324126, 5);
      expect(both[0]?.dx).toEqual(both[1]?.dx);
      disposeTree([x, parameters, dweights]);
    });
  });
});
