import { isMoebiusError } from '@moebius/core';
import {
  cloneTensor,
  countTensors,
  createEngine,
  disposeTree,
  tensor1d,
  tensor2d,
  zeros,
} from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { defineRouter } from './define-router.ts';
import type { Router, RouterDefinition, RouterOutput } from './define-router.ts';
import { parseGateConfig } from './gate-config.ts';
import { planScores } from './gate.ts';
import { defineRouterFactory } from './router-factory.ts';
import { advanceRouter, routeBackward, routeForward, routeInference } from './run-router.ts';
import { topKRouter } from './top-k-router.ts';

beforeAll(async () => {
  await createEngine({ engine: 'cpu' });
});

const sound = topKRouter(parseGateConfig({ experts: 4, topK: 2 }));
const { gate: _gate, infer: _infer, ...plain } = sound;
const kit = ' (run describeRouter of @moebius/routing/testing on it)';

/** A router like the gate, untrusted, with one thing changed. */
const changed = (change: Partial<RouterDefinition>): Router =>
  defineRouter({ ...plain, trusted: false, name: 'odd', ...change });

/** A router whose forward returns something else. */
const returning = (change: (output: RouterOutput) => unknown): Router =>
  changed({ forward: (x, own, options) => change(plain.forward(x, own, options)) as RouterOutput });

function bench(): { x: Tensor2D; parameters: { weight: Tensor2D } } {
  const values = Float32Array.from({ length: 12 }, (_, i) => Math.sin(i));
  return {
    x: tensor2d(values, [3, 4]),
    parameters: { weight: tensor2d(values.slice(0, 12).reverse(), [3, 4]) },
  };
}

/** The message of what a call throws; every tensor that it made must be gone. */
function messageOf(call: () => unknown): string {
  const before = countTensors();
  try {
    call();
  } catch (error) {
    expect(countTensors()).toBe(before);
    if (!isMoebiusError(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  throw new Error('nothing was thrown');
}

function forwardMessage(router: Router): string {
  const x = tensor2d(
    new Float32Array(12).map((_, i) => Math.sin(i)),
    [3, 4],
  );
  const parameters = {
    weight: tensor2d(
      new Float32Array(16).map((_, i) => Math.cos(i)),
      [4, 4],
    ),
  };
  const message = messageOf(() => routeForward(router, { x, parameters, options: { layer: 3 } }));
  disposeTree([x, parameters]);
  return message;
}

const withPlan = (plan: object): Router =>
  returning((output) => ({
    ...output,
    route: { ...output.route, plan: { ...(output.route as { plan: object }).plan, ...plan } },
  }));

describe('a router whose forward is wrong', () => {
  const cases: { readonly [title: string]: readonly [Router, string] } = {
    throws: [
      changed({
        forward: () => {
          zeros([3]);
          throw new RangeError('boom');
        },
      }),
      'plugin: layers[3] router "odd" forward: must not throw, got RangeError: boom (mend the plug-in)',
    ],
    'throws one of ours': [
      changed({ forward: (x) => planScores(x, { topK: 9 }) as never }),
      'configuration: layers[3] router "odd" forward: gate: must be a valid configuration, got 1 fault',
    ],
    'returns nothing': [
      returning(() => undefined),
      `plugin: layers[3] router "odd" forward: must return an object with route, logits, scores and saved, got nothing${kit}`,
    ],
    'is a promise': [
      returning((output) => Promise.resolve(output)),
      'ownership: layers[3] router "odd" forward: router.odd: must return synchronously, got a promise (await outside the scope and pass the values in)',
    ],
    'gives another kind of route': [
      returning((output) => ({ ...output, route: { kind: 'slots' } })),
      `plugin: layers[3] router "odd" forward: route must be of kind pairs, as the router says, got slots${kit}`,
    ],
    'has logits of another shape': [
      returning((output) => ({ ...output, logits: zeros([3, 5]) })),
      `plugin: layers[3] router "odd" forward: logits must be a float32 tensor [3, 4], got float32 [3, 5]${kit}`,
    ],
    'has scores of another type': [
      returning((output) => ({ ...output, scores: zeros([3, 4], 'int32') })),
      `plugin: layers[3] router "odd" forward: scores must be a float32 tensor [3, 4], got int32 [3, 4]${kit}`,
    ],
    'has NaN logits': [
      returning((output) => ({ ...output, logits: tensor2d(new Float32Array(12).fill(NaN, 6, 7), [3, 4]) })),
      `numerics: layers[3] router "odd" forward: logits must be finite, got NaN at [1, 2]${kit}`,
    ],
    'has NaN weights': [
      returning((output) => ({
        ...output,
        route: { ...output.route, weights: tensor1d([1, 1, 1, 1, 1, NaN]) },
      })),
      `numerics: layers[3] router "odd" forward: route.weights must be finite, got NaN at [5]${kit}`,
    ],
    'has too few weights': [
      returning((output) => ({ ...output, route: { ...output.route, weights: tensor1d([1]) } })),
      `plugin: layers[3] router "odd" forward: route.weights must be a float32 tensor [6], got float32 [1]${kit}`,
    ],
    'plans for other tokens': [
      withPlan({ tokens: 2 }),
      `plugin: layers[3] router "odd" forward: route.plan.tokens must be 3, got 2${kit}`,
    ],
    'plans for other experts': [
      withPlan({ experts: 9 }),
      `plugin: layers[3] router "odd" forward: route.plan.experts must be 4, got 9${kit}`,
    ],
    'sends a token out of range': [
      returning((output) => {
        if (output.route.kind !== 'pairs') return output;
        const { plan } = output.route;
        const last = plan.token.length - 1;
        const token = plan.token.map((entry, n) => (n === last ? 7 : entry));
        const source = plan.source.map((entry, n) => (n === last ? 4 * 7 + (entry % 4) : entry));
        return { ...output, route: { ...output.route, plan: { ...plan, token, source } } };
      }),
      `plugin: layers[3] router "odd" forward: route.plan.token[5] must be in 0…2, got 7${kit}`,
    ],
    'returns its input': [
      changed({ forward: (x, own, options) => ({ ...plain.forward(x, own, options), saved: { x } }) }),
      `plugin: layers[3] router "odd" forward: must return tensors of its own (cloneTensor), got one of its inputs${kit}`,
    ],
    'offers a tap of another length': [
      returning((output) => ({ ...output, taps: { seen: zeros([2, 4]) } })),
      `plugin: layers[3] router "odd" forward: taps.seen must be a float32 tensor [3, *], got float32 [2, 4]${kit}`,
    ],
  };
  for (const [title, [router, message]] of Object.entries(cases)) {
    it(`${title}: is refused by name, and leaves no tensor behind`, () => {
      expect(forwardMessage(router)).toContain(message);
    });
  }

  it('names an expert twice: is refused like any broken plan', () => {
    const twice = changed({
      forward: (x, own, options) => {
        const output = plain.forward(x, own, options);
        if (output.route.kind !== 'pairs') return output;
        const { plan } = output.route;
        const token = plan.token.map((_, n) => plan.token[n === 1 ? 0 : n] ?? 0);
        return { ...output, route: { ...output.route, plan: { ...plan, token } } };
      },
    });
    expect(forwardMessage(twice)).toMatch(/^plugin: layers\[3\] router "odd" forward: route\.plan\./);
  });
});

describe('a router whose backward is wrong', () => {
  const run = (backward: Router['backward']): string => {
    const x = tensor2d(
      new Float32Array(12).map((_, i) => Math.sin(i)),
      [3, 4],
    );
    const parameters = {
      weight: tensor2d(
        new Float32Array(16).map((_, i) => Math.cos(i)),
        [4, 4],
      ),
    };
    const router = changed({ backward });
    const { saved, ...rest } = routeForward(router, { x, parameters, options: { layer: 3 } });
    const dlogits = cloneTensor(rest.logits);
    const request = { saved, upstream: { dlogits }, shape: [3, 4] as const, layer: 3 };
    const message = messageOf(() => routeBackward(router, request));
    disposeTree([x, parameters, saved, rest, dlogits]);
    return message;
  };
  const right = plain.backward;

  it('is refused by name', () => {
    const at = 'plugin: layers[3] router "odd" backward:';
    expect(run(() => undefined as never)).toBe(
      `${at} must return an object with dx and parameters, got nothing${kit}`,
    );
    expect(run((...given) => ({ ...right(...given), dx: zeros([3, 3]) as Tensor2D }))).toBe(
      `${at} dx must be a float32 tensor [3, 4], got float32 [3, 3]${kit}`,
    );
    expect(run((...given) => ({ ...right(...given), parameters: {} }))).toBe(
      `${at} gradient of weight must be a float32 tensor [4, 4], got nothing${kit}`,
    );
    const extra = run((...given) => {
      const gradients = right(...given);
      return { ...gradients, parameters: { ...gradients.parameters, scale: zeros([1]) } };
    });
    expect(extra).toBe(`${at} parameters must be gradients of weight, got "scale"${kit}`);
    expect(
      run(() => {
        throw new Error('no gradient');
      }),
    ).toBe(`${at} must not throw, got Error: no gradient (mend the plug-in)`);
  });
});

describe('buffers and inference of a router', () => {
  const biased = (advance: NonNullable<Router['advance']>): Router =>
    changed({ bufferShapes: () => ({ bias: [4] }), advance });
  const seen = { load: Float64Array.of(1, 2, 3, 4), layer: 3, step: 1 };
  const zero = { bias: new Float32Array(4) };

  it('move to fresh buffers, or are refused by name', () => {
    const moved = advanceRouter(
      biased(({ bias }, { load }) => ({ bias: bias!.map((value, e) => value - (load[e] ?? 0)) })),
      zero,
      seen,
    );
    expect([...moved['bias']!]).toEqual([-1, -2, -3, -4]);
    expect(advanceRouter(sound, zero, seen)).toBe(zero);
    const at = 'layers[3] router "odd" advance:';
    expect(
      messageOf(() =>
        advanceRouter(
          biased(() => ({})),
          zero,
          seen,
        ),
      ),
    ).toBe(`plugin: ${at} buffer bias must be a Float32Array of 4, got undefined${kit}`);
    expect(
      messageOf(() =>
        advanceRouter(
          biased(() => ({ bias: new Float32Array(5) })),
          zero,
          seen,
        ),
      ),
    ).toBe(`plugin: ${at} buffer bias must be a Float32Array of 4, got one of 5${kit}`);
    expect(
      messageOf(() =>
        advanceRouter(
          biased(() => ({ bias: Float32Array.of(0, NaN, 0, 0) })),
          zero,
          seen,
        ),
      ),
    ).toBe(`numerics: ${at} buffer bias must be finite, got NaN at [1]${kit}`);
  });

  it('takes the route of forward when there is no infer, and checks infer when there is', () => {
    const { x } = bench();
    const parameters = {
      weight: tensor2d(
        new Float32Array(16).map((_, i) => Math.cos(i)),
        [4, 4],
      ),
    };
    const request = { x, parameters, options: { layer: 3 } };
    const before = countTensors();
    const route = routeInference(changed({}), request);
    expect(countTensors()).toBe(before + 1);
    disposeTree(route);
    const empty = changed({ infer: () => ({ kind: 'pairs' }) as never });
    expect(messageOf(() => routeInference(empty, request))).toBe(
      `plugin: layers[3] router "odd" infer: route.plan must be made by planTopK or planPairs, got undefined${kit}`,
    );
    disposeTree([x, parameters]);
  });
});

describe('slots and merge routes', () => {
  const scored = { logits: zeros, scores: zeros };
  const routed = (kind: 'slots' | 'merge', route: () => object): Router =>
    changed({
      route: kind,
      forward: () => ({
        route: { kind, ...route() } as never,
        logits: scored.logits([3, 4]) as Tensor2D,
        scores: scored.scores([3, 4]) as Tensor2D,
        saved: null,
      }),
    });

  it('are held to their shapes', () => {
    expect(
      forwardMessage(routed('slots', () => ({ dispatch: zeros([3, 8]), combine: zeros([3, 4]) }))),
    ).toContain('route.combine must be a float32 tensor [3, 8], got float32 [3, 4]');
    expect(
      forwardMessage(routed('merge', () => ({ mix: zeros([2, 4]), group: Int32Array.of(0, 1, 2) }))),
    ).toContain('route.group must be in 0…1, or -1 for no group, got 2 at [2]');
    expect(forwardMessage(routed('merge', () => ({ mix: zeros([2, 4]), group: [0, 1, 1] })))).toContain(
      'route.group must be an Int32Array of 3, got object',
    );
  });
});

describe('defineRouter and defineRouterFactory', () => {
  const place = { layer: 2, place: 1, sparseLayers: 2, experts: 4, topK: 2, modelWidth: 8 };

  it('refuse definitions, naming every fault', () => {
    expect(() => defineRouter({ ...plain, topK: 0, route: 'all' as never, infer: 3 as never })).toThrow(
      'router "top-k": topK: must be above 0 and at most experts 4, got 0; route: must be one of pairs, slots, merge, got all; infer: must be a function, got number',
    );
    expect(() => defineRouterFactory({ name: 'x' } as never)).toThrow(
      'create: must be a function, got undefined',
    );
  });

  it('make routers that carry their options', () => {
    const factory = defineRouterFactory({
      name: 'odd',
      create: ({ experts, topK }, { scale = 1 }) =>
        defineRouter({ ...topKRouter(parseGateConfig({ experts, topK, scale })), name: 'odd' }),
    });
    const made = factory.create(place, { scale: 2 });
    expect(made).toMatchObject({ kind: 'router', name: 'odd', options: { scale: 2 }, gate: { scale: 2 } });
  });

  it('say what a factory did wrong', () => {
    const other = defineRouterFactory({ name: 'odd', create: () => sound });
    expect(messageOf(() => other.create(place, {}))).toBe(
      'plugin: layers[2] router "odd" create: must return a router of this name made by defineRouter, got router "top-k"',
    );
    const failing = defineRouterFactory({
      name: 'odd',
      create: () => {
        throw new TypeError('temperature: must be above 0');
      },
    });
    expect(messageOf(() => failing.create(place, {}))).toBe(
      'plugin: layers[2] router "odd" create: must not throw, got temperature: must be above 0 (mend the plug-in, or its options)',
    );
  });
});

describe('planScores', () => {
  it('chooses the largest scores, ties to the lowest index, and leaves masked tokens out', () => {
    const scores = tensor2d([1, 3, 3, 0, 9, 9, 9, 9], [2, 4]);
    expect([...planScores(scores, { topK: 2 }).source]).toEqual([4, 1, 5, 2]);
    const masked = planScores(scores, { topK: 1, mask: Uint8Array.of(0, 1) });
    expect([...masked.token]).toEqual([1]);
    scores.dispose();
    const bad = tensor2d([1, NaN], [1, 2]);
    expect(messageOf(() => planScores(bad, { topK: 1, layer: 5 }))).toContain(
      'numerics: layers[5] gate logits of token 0: must be finite, got NaN for expert 1',
    );
    bad.dispose();
  });
});
