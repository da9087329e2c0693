import { isMoebiusError, runSync } from '@moebius/core';
import { createEngine, disposeTree, readHostSync, tensor, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import {
  assertPlan,
  capacityPolicy,
  createLocalExecutor,
  createResidentSource,
  defineRouter,
  gatedExpert,
  parseCapacityConfig,
  parseGateConfig,
  topKRouter,
  weighKeptForward,
  withCapacity,
} from '../../src/index.ts';
import type { DispatchPlan, Router } from '../../src/index.ts';
import { checkGradient, describeRouter } from '../../src/testing/index.ts';
import { inner, kitRng, randomTensor, randomValues, valuesOf } from '../../src/testing/checks.ts';

import {
  capped,
  createBench,
  experts,
  gates,
  norms,
  policies,
  tokens,
  width,
  without,
} from './capped-routers.ts';
import type { Bench } from './capped-routers.ts';
import { checkLeaks } from '../leak-check.ts';

beforeAll(async () => {
  await createEngine();
});

checkLeaks();

/** Weight by pair. */
function weightsOf(route: { readonly plan: DispatchPlan; readonly weights: Tensor1D }): Map<number, number> {
  const values = valuesOf(route.weights);
  return new Map([...route.plan.source].map((pair, n) => [pair, values[n]!]));
}

/** Runs the inner and the capped router, compares, frees. */
function compared(
  gate: object,
  settings: object,
  compare: (both: {
    own: Map<number, number>;
    kept: Map<number, number>;
    plan: DispatchPlan;
    scores: Float32Array;
  }) => void,
): void {
  const bench = createBench();
  const options = without(bench, gate);
  const whole = topKRouter(parseGateConfig(gate)).forward(bench.x, bench.parameters, options);
  const output = capped(gate, settings).forward(bench.x, bench.parameters, options);
  if (whole.route.kind !== 'pairs' || output.route.kind !== 'pairs') throw new Error('pairs expected');
  assertPlan(output.route.plan);
  expect(output.primary!.source).toEqual(whole.route.plan.source);
  compare({
    own: weightsOf(whole.route),
    kept: weightsOf(output.route),
    plan: output.route.plan,
    scores: valuesOf(output.scores),
  });
  disposeTree([bench.x, bench.parameters, whole, output]);
}

const tokenOf = (pair: number): number => Math.floor(pair / experts);

describe('weights after a drop (invariant 14)', () => {
  for (const [title, gate] of Object.entries(gates)) {
    for (const [name, settings] of Object.entries(policies)) {
      it(`router: primary pairs keep their weights bit for bit, added ones follow the token's rate: ${title}, ${name}`, () => {
        compared(gate, { ...settings, weights: 'router' }, ({ own, kept, plan, scores }) => {
          expect(plan.stats.capacity!.dropped).toBeGreaterThan(0);
          for (const [pair, weight] of kept) {
            const dropless = own.get(pair);
            if (dropless !== undefined) expect(weight).toBe(dropless);
            else {
              const mine = [...own].filter(([other]) => tokenOf(other) === tokenOf(pair));
              const rate =
                mine.reduce((sum, [, w]) => sum + w, 0) /
                mine.reduce((sum, [other]) => sum + scores[other]!, 0);
              expect(weight).toBeCloseTo(rate * scores[pair]!, 5);
            }
          }
        });
      });
    }
  }

  it('primary: kept weights equal the dropless weights of a renormalising gate exactly', () => {
    const gate = gates['softmax, renormalised'];
    for (const settings of Object.values(policies)) {
      compared(gate, { ...settings, weights: 'primary' }, ({ own, kept }) => {
        for (const [pair, weight] of kept) if (own.has(pair)) expect(weight).toBe(own.get(pair));
      });
    }
  });

  it('none: the score itself, times scale', () => {
    compared(
      gates['softmax, renormalised'],
      { ...policies['expanded drop'], weights: 'none', scale: 2 },
      ({ kept, scores }) => {
        for (const [pair, weight] of kept) expect(weight).toBe(Math.fround(2 * scores[pair]!));
      },
    );
  });

  it('kept: rows with a pair sum to 1, and orphans to nothing', () => {
    for (const settings of [...Object.values(policies), { method: 'drop', gamma: 0.2 }]) {
      compared(gates['softmax, raw'], { ...settings, weights: 'kept' }, ({ kept, plan }) => {
        for (let t = 0; t < tokens; t += 1) {
          const row = [...kept].filter(([pair]) => tokenOf(pair) === t).map(([, weight]) => weight);
          if (plan.tokenOffsets[t] === plan.tokenOffsets[t + 1]) expect(row).toEqual([]);
          else expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
        }
      });
    }
  });

  it('kept: scores that underflow give 0 and never NaN', () => {
    const bench = createBench();
    const source = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: Infinity }));
    const whole = topKRouter(parseGateConfig(gates['softmax, raw'])).forward(bench.x, bench.parameters, {
      ...bench.options,
      buffers: {},
    });
    if (whole.route.kind !== 'pairs') throw new Error('pairs expected');
    const { plan: primary } = whole.route;
    const plan = source.plan({ primary, scores: new Float32Array(tokens * experts) });
    const zeros = tensor2d(new Float32Array(tokens * experts), [tokens, experts]);
    for (const norm of norms) {
      const { value, saved } = weighKeptForward(whole.route.weights, zeros, {
        plan,
        primary,
        weights: { norm, scale: 1, epsilon: 1e-20 },
      });
      expect(valuesOf(value).every((weight) => Number.isFinite(weight))).toBe(true);
      disposeTree([value, saved]);
    }
    disposeTree([bench.x, bench.parameters, whole, zeros]);
  });

  it('refuses shares of a negative sum', () => {
    const bench = createBench();
    const gate = { experts, topK: 2, score: 'identity' };
    const router = withCapacity(
      topKRouter(parseGateConfig(gate)),
      capacityPolicy(
        parseCapacityConfig({ method: 'drop', gamma: 0.2, minCapacity: 3, key: 'order', weights: 'kept' }),
      ),
    );
    const negative = tensor2d(
      valuesOf(bench.x).map((value) => -Math.abs(value)),
      [tokens, width],
    );
    const weight = tensor2d(new Float32Array(experts * width).fill(1), [experts, width]);
    expect(() => router.forward(negative, { weight }, { layer: 3 })).toThrow(
      'layers[3] capacity weights "kept": scores of token 0\'s experts must sum to at least 0, got less (use weights "none", or a score that is not negative)',
    );
    disposeTree([bench.x, bench.parameters, negative, weight]);
  });
});

/** Σ c·weights + Σ a·logits + Σ b·scores; NaN when the plan is another one. */
function objective(
  router: Router,
  bench: Bench,
  directions: readonly Float32Array[],
  plan: DispatchPlan,
): number {
  const output = router.forward(bench.x, bench.parameters, bench.options);
  if (output.route.kind !== 'pairs') throw new Error('pairs expected');
  const same =
    String(output.route.plan.source) === String(plan.source) && String(output.primary?.source) !== '';
  const outputs = [output.route.weights, output.logits, output.scores].map(valuesOf);
  disposeTree(output);
  return same ? outputs.reduce((sum, values, i) => sum + inner(values, directions[i]!), 0) : NaN;
}

function checkRouter(router: Router, gate: object, mask?: Uint8Array): void {
  const fresh = createBench(mask);
  const bench = { ...fresh, options: without(fresh, gate) };
  const output = router.forward(bench.x, bench.parameters, bench.options);
  if (output.route.kind !== 'pairs') throw new Error('pairs expected');
  const { plan } = output.route;
  const shapes = [[plan.source.length], [tokens, experts], [tokens, experts]];
  const directions = shapes.map((shape, i) =>
    randomValues(
      kitRng(`direction ${i}`),
      shape.reduce((a, b) => a * b, 1),
    ),
  );
  const [dweights, dlogits, dscores] = directions.map((values, i) => tensor(values.slice(), shapes[i]!));
  const gradients = router.backward(output.saved, {
    route: { kind: 'pairs', weights: dweights as Tensor1D },
    dlogits: dlogits as Tensor2D,
    dscores: dscores as Tensor2D,
  });
  const at = (x: Tensor2D, weight: Tensor): number =>
    objective(router, { ...bench, x, parameters: { weight } }, directions, plan);
  checkGradient(valuesOf(gradients.dx), {
    subject: 'dx',
    at: valuesOf(bench.x),
    f: (values) => {
      const x = tensor2d(values, [tokens, width]);
      const value = at(x, bench.parameters.weight);
      x.dispose();
      return value;
    },
    step: 0.005,
    relative: 5e-3,
    absolute: 5e-3,
  });
  checkGradient(valuesOf(gradients.parameters['weight']!), {
    subject: 'dweight',
    at: valuesOf(bench.parameters.weight),
    f: (values) => {
      const weight = tensor2d(values, [experts, width]);
      const value = at(bench.x, weight);
      weight.dispose();
      return value;
    },
    step: 0.005,
    relative: 5e-3,
    absolute: 5e-3,
  });
  disposeTree([bench.x, bench.parameters, output, gradients, dweights, dlogits, dscores]);
}

describe('gradients of a capped router equal differences', () => {
  for (const [title, gate] of Object.entries(gates)) {
    for (const norm of norms) {
      it(`${title}, weights ${norm}, expansion`, () => {
        checkRouter(
          capped(gate, { ...policies['expanded drop'], weights: norm, scale: norm === 'router' ? 1 : 1.7 }),
          gate,
        );
      });
    }
  }
  for (const name of ['token drop', 'reroute', 'device drop'] as const) {
    it(`softmax, renormalised, ${name}, padding`, () => {
      const mask = Uint8Array.from({ length: tokens }, (_, t) => (t % 4 === 2 ? 0 : 1));
      for (const norm of norms)
        checkRouter(
          capped(gates['softmax, renormalised'], { ...policies[name], weights: norm }),
          gates['softmax, renormalised'],
          mask,
        );
    });
  }
});

describe('withCapacity', () => {
  const unbounded = { method: 'drop', gamma: Infinity };
  describeRouter(capped({ experts, topK: 2, renormalise: true }, unbounded), {
    describe,
    it,
    title: 'top-k with γ = ∞',
  });
  describeRouter(capped({ experts, topK: 2 }, { ...unbounded, expand: { kind: 'top-m', m: 3 } }), {
    describe,
    it,
    title: 'top-k with over-selection',
  });
  describeRouter(capped({ experts, topK: 2 }, { ...unbounded, training: false, minTokens: 1e6 }), {
    describe,
    it,
    title: 'top-k with a policy that does not act',
  });

  it('leaves the route of the router as it is where the policy does not act, and at γ = ∞ gives the same bytes', () => {
    for (const settings of [{ ...unbounded }, { method: 'drop', gamma: 0, applyTo: 'decode' }]) {
      const bench = createBench();
      const options = { ...bench.options, buffers: {} };
      const [gate] = Object.values(gates);
      const whole = topKRouter(parseGateConfig(gate)).forward(bench.x, bench.parameters, options);
      const same = capped(gate!, settings).forward(bench.x, bench.parameters, options);
      if (whole.route.kind !== 'pairs' || same.route.kind !== 'pairs') throw new Error('pairs expected');
      expect(same.route.plan.slot).toEqual(whole.route.plan.slot);
      expect(valuesOf(same.route.weights)).toEqual(valuesOf(whole.route.weights));
      disposeTree([bench.x, bench.parameters, whole, same]);
    }
  });

  it('at γ = ∞ the layer’s output has the same bytes, at γ = 0 it is zero (invariants 1 and 2)', () => {
    const bench = createBench();
    const gate = gates['softmax, renormalised'];
    const rng = kitRng('experts');
    const units = Array.from({ length: experts }, (_, e) =>
      Object.fromEntries(
        ['gate', 'up', 'down'].map((part) => [part, randomTensor(rng.fork(`${e} ${part}`), [5, width])]),
      ),
    );
    const kind = gatedExpert();
    const source = createResidentSource({ kinds: units.map(() => kind), read: (_, e) => units[e]! });
    const layer = (router: Router): Float32Array => {
      const output = router.forward(bench.x, bench.parameters, { ...bench.options, buffers: {} });
      const { y, saved } = runSync(
        createLocalExecutor().forward({ layer: 0, hidden: bench.x, route: output.route, experts: source }),
      );
      const values = Float32Array.from(readHostSync(y));
      disposeTree([output, y, saved]);
      return values;
    };
    expect(layer(capped(gate, unbounded))).toEqual(layer(topKRouter(parseGateConfig(gate))));
    expect(layer(capped(gate, { method: 'drop', gamma: 0 })).every((value) => value === 0)).toBe(true);
    disposeTree([bench.x, bench.parameters, units]);
  });

  it('drops shortcuts of the router that would lead around the policy', () => {
    const plain = topKRouter(parseGateConfig(gates['softmax, raw']));
    const shortcut = { ...plain, gate: parseGateConfig(gates['softmax, raw']), infer: () => null };
    const router = withCapacity(
      shortcut as unknown as Router,
      capacityPolicy(parseCapacityConfig(unbounded)),
    );
    expect(Object.keys(router)).not.toContain('gate');
    expect(Object.keys(router)).not.toContain('infer');
    expect(router.name).toBe('top-k-with-token-drop');
  });

  it('refuses routes that have no pairs, naming router and layer', () => {
    const definition = {
      name: 'merging',
      experts,
      topK: 1,
      route: 'merge' as const,
      parameterShapes: () => ({}),
      bufferShapes: () => ({}),
      forward: () => ({
        route: { kind: 'merge' as const, mix: tensor2d([[1]]), group: Int32Array.of(0) },
        logits: tensor2d([[1]]),
        scores: tensor2d([[1]]),
        saved: null,
      }),
      backward: () => ({ dx: tensor2d([[1]]), parameters: {} }),
    };
    const merging = defineRouter(definition);
    const router = withCapacity(merging, capacityPolicy(parseCapacityConfig(unbounded)));
    const x = tensor1d([1]) as unknown as Tensor2D;
    let thrown: unknown;
    try {
      router.forward(x, {}, { layer: 5 });
    } catch (error) {
      thrown = error;
    }
    x.dispose();
    expect(isMoebiusError(thrown, 'plugin') && thrown.message).toBe(
      'capacity of router "merging": layers[5] route must be of kind pairs, got merge (only pairs can be dropped)',
    );
  });
});
