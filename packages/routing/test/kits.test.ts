import { MoebiusError } from '@moebius/core';
import { add, addN, createEngine, disposeTree, mul, scalar, tensor1d, zerosLike } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import {
  createLocalExecutor,
  defineBalanceLoss,
  defineExecutor,
  defineExpert,
  defineRouter,
  gatedExpert,
  identityExpert,
  loadBalanceLoss,
  parseGateConfig,
  topKRouter,
  zLoss,
} from '../src/index.ts';
import type { BalanceLoss, ExpertExecutor, ExpertKind, Router } from '../src/index.ts';
import {
  describeBalanceLoss,
  describeExecutor,
  describeExpert,
  describeRouter,
} from '../src/testing/index.ts';
import type { TestApi } from '../src/testing/index.ts';

beforeAll(async () => {
  await createEngine();
});

/** Runs a kit outside the test runner and lists what failed. */
function failuresOf(register: (api: TestApi) => void): string[] {
  const failures: string[] = [];
  const api: TestApi = {
    describe: (_, body) => body(),
    it: (name, body) => {
      try {
        body();
      } catch (error) {
        failures.push(`${name}: ${(error as Error).message}`);
      }
    },
  };
  register(api);
  return failures;
}

const leaked: Tensor2D[] = [];

describe('describeExpert', () => {
  const sound = gatedExpert();
  const broken: Record<string, [Partial<ExpertKind>, RegExp]> = {
    'a wrong gradient': [
      {
        backward: (saved, dy) => {
          const { dx, parameters } = sound.backward(saved, dy);
          const doubled = mul<Tensor2D>(dx, 1.05);
          dx.dispose();
          return { dx: doubled, parameters };
        },
      },
      /gradients of its forward.*dx\[/,
    ],
    'a missing gradient': [
      {
        backward: (saved, dy) => {
          const { dx, parameters } = sound.backward(saved, dy);
          parameters['gate']?.dispose();
          return { dx, parameters: { up: parameters['up']!, down: parameters['down']! } };
        },
      },
      /gradient of gate: must be/,
    ],
    'a leak': [
      {
        forward: (x, parameters) => {
          leaked.push(zerosLike(x));
          return sound.forward(x, parameters);
        },
      },
      /must leave 0 tensors, got 1/,
    ],
    'rows that see each other': [
      {
        forward: (x, parameters) => {
          const { value, saved } = sound.forward(x, parameters);
          const mixed = mul<Tensor2D>(value, x.shape[0]);
          value.dispose();
          return { value: mixed, saved };
        },
      },
      /row from that row alone.*row 0/,
    ],
    'operations that do not follow rows': [{ flops: () => 7 }, /flops of 12 rows: must be 84, got 7/],
  };
  for (const [name, [change, expected]] of Object.entries(broken)) {
    it(`fails for ${name}`, () => {
      const failures = failuresOf((api) =>
        describeExpert(defineExpert({ ...sound, ...change, name: 'broken' }), api),
      );
      expect(failures.join('\n')).toMatch(expected);
      disposeTree(leaked.splice(0));
    });
  }
});

describe('describeExecutor', () => {
  const sound = createLocalExecutor();
  const failures = (change: Partial<ExpertExecutor>): string =>
    failuresOf((api) => describeExecutor(defineExecutor({ ...sound, ...change }), api)).join('\n');

  it('fails for an executor that ignores the weights of one form of plan', () => {
    const found = failures({
      *forward(input) {
        const { route } = input;
        if (route.kind !== 'pairs') throw new MoebiusError({ code: 'plugin', message: 'no' });
        const ones = tensor1d(new Float32Array(route.weights.size).fill(1), 'float32');
        const result = yield* sound.forward({ ...input, route: { ...route, weights: ones } });
        ones.dispose();
        return result;
      },
    });
    expect(found).toMatch(/equals the loop over pairs, top-2 of 11 tokens: conformance: y\[/);
    expect(found).not.toMatch(/no routed token/);
  });

  it('fails for wrong gradients of hidden rows, of weights, and of experts', () => {
    const after = (change: (gradients: { hidden: Tensor2D; weights: Tensor1D }) => void): string =>
      failures({
        *backward(saved, dy) {
          const gradients = yield* sound.backward(saved, dy);
          if (gradients.route.kind === 'pairs')
            change({ hidden: gradients.hidden, weights: gradients.route.weights });
          return gradients;
        },
      });
    expect(after(() => undefined)).toBe('');
    const swapped = failures({
      *backward(saved, dy) {
        const gradients = yield* sound.backward(saved, dy);
        return { ...gradients, experts: gradients.experts.toReversed() };
      },
    });
    expect(swapped).toMatch(/gradient of experts\[0\]/);
    const scaled = failures({
      *backward(saved, dy) {
        const gradients = yield* sound.backward(saved, dy);
        if (gradients.route.kind !== 'pairs') return gradients;
        const weights = mul<Tensor1D>(gradients.route.weights, 2);
        gradients.route.weights.dispose();
        return { ...gradients, route: { kind: 'pairs' as const, weights } };
      },
    });
    expect(scaled).toMatch(/gradient of weights/);
  });

  it('fails for a leak and for accepting everything', () => {
    const found = failures({
      *forward(input) {
        leaked.push(zerosLike(input.hidden));
        return yield* sound.forward(input);
      },
    });
    expect(found).toMatch(/must leave 0 tensors, got/);
    disposeTree(leaked.splice(0));
    const permissive = failures({
      accepts: ['pairs'],
      *forward(input) {
        const route = input.route.kind === 'pairs' ? input.route : null;
        if (route !== null) return yield* sound.forward(input);
        return { y: zerosLike(input.hidden), saved: { executor: 'x', state: null } };
      },
    });
    expect(permissive).toMatch(/a route of kind merge: must throw a "plugin" error, got nothing/);
  });

  it('fails for slots that are not combined, and for wrong gradients of slots', () => {
    const uncombined = failures({
      *forward(input) {
        const { route } = input;
        if (route.kind !== 'slots') return yield* sound.forward(input);
        return yield* sound.forward({ ...input, route: { ...route, combine: route.dispatch } });
      },
    });
    expect(uncombined).toMatch(/gated experts: equals the loop, one slot an expert: conformance: y\[/);
    expect(uncombined).not.toMatch(/merged|pairs/);
    const swapped = failures({
      *backward(saved, dy) {
        const gradients = yield* sound.backward(saved, dy);
        const { route } = gradients;
        if (route.kind !== 'slots') return gradients;
        return { ...gradients, route: { ...route, dispatch: route.combine, combine: route.dispatch } };
      },
    });
    expect(swapped).toMatch(/gradient of dispatch\[/);
  });

  it('fails for merged experts that are not merged, and for wrong gradients of a mix', () => {
    const first = failures({
      *forward(input) {
        const { route } = input;
        if (route.kind !== 'merge') return yield* sound.forward(input);
        const group = route.group.map(() => 0);
        return yield* sound.forward({ ...input, route: { ...route, group } });
      },
    });
    expect(first).toMatch(
      /merged gated-silu experts: equals the loop, groups one after another: conformance: y\[/,
    );
    const lenient = failures({
      *forward(input) {
        const { route, experts } = input;
        if (route.kind !== 'merge') return yield* sound.forward(input);
        const kinds = Array.from({ length: experts.experts }, (_, e) => experts.kind(e).name);
        if (new Set(kinds).size === 1) return yield* sound.forward(input);
        return { y: zerosLike(input.hidden), saved: { executor: 'x', state: null } };
      },
    });
    expect(lenient).toMatch(
      /experts of several kinds in one group: must throw a "configuration" error, got nothing/,
    );
    const halved = failures({
      *backward(saved, dy) {
        const gradients = yield* sound.backward(saved, dy);
        const { route } = gradients;
        if (route.kind !== 'merge') return gradients;
        const mix = mul<Tensor2D>(route.mix, 0.5);
        route.mix.dispose();
        return { ...gradients, route: { ...route, mix } };
      },
    });
    expect(halved).toMatch(/gradient of mix\[/);
  });
});

describe('describeRouter', () => {
  const sound = topKRouter(parseGateConfig({ experts: 6, topK: 2, renormalise: true }));
  const failures = (change: Partial<Router>): string =>
    failuresOf((api) => describeRouter(defineRouter({ ...sound, ...change }), api)).join('\n');

  it('passes the sound router', () => {
    expect(failures({})).toBe('');
  });

  it('fails for a gradient that forgets the route', () => {
    expect(
      failures({ backward: (saved, { route: _route, ...rest }) => sound.backward(saved, rest) }),
    ).toMatch(/gradients of its forward.*dx\[/);
  });

  it('fails for a router that ignores the mask, and for one that routes NaN', () => {
    const blind = failures({
      forward: (x, parameters, { mask: _mask, ...rest }) => sound.forward(x, parameters, rest),
    });
    expect(blind).toMatch(/is masked, must have no pair/);
    const calm = failures({
      forward: (x, parameters, options) => {
        try {
          return sound.forward(x, parameters, options);
        } catch {
          const zeros = zerosLike(x);
          const output = sound.forward(zeros, parameters, options);
          zeros.dispose();
          return output;
        }
      },
    });
    expect(calm).toMatch(/NaN in token 1: must throw a "numerics" error, got nothing/);
  });

  it('fails for an inconsistent plan', () => {
    const found = failures({
      forward: (x, parameters, options) => {
        const output = sound.forward(x, parameters, options);
        if (output.route.kind !== 'pairs') return output;
        const { plan } = output.route;
        return { ...output, route: { ...output.route, plan: { ...plan, source: plan.source.toReversed() } } };
      },
    });
    expect(found).toMatch(/plan\.source\[0\]/);
  });
});

describe('describeBalanceLoss', () => {
  const sound = loadBalanceLoss({ pooling: 'pooled' });
  const failures = (change: Partial<BalanceLoss>, of: BalanceLoss = sound): string =>
    failuresOf((api) => describeBalanceLoss(defineBalanceLoss({ ...of, ...change }), api)).join('\n');

  it('fails for a gradient of another loss, or of another scale', () => {
    expect(
      failures({
        gradient: (observation, options) =>
          zLoss().gradient(observation, { ...options, counts: options.counts.map((c) => c.slice(0, 1)) }),
      }),
    ).toMatch(/gradient of layer 0\[/);
    expect(
      failures({ gradient: (observation, options) => sound.gradient(observation, { ...options, scale: 1 }) }),
    ).toMatch(/gradient at scale 3\[/);
  });

  it('fails for statistics that do not add up, or that see masked tokens', () => {
    const average = failures({
      statistics: (observation) => {
        const { counts, sums } = sound.statistics(observation);
        const mean = mul<Tensor1D>(sums, scalar(1 / Math.max(1, counts[0]!)));
        sums.dispose();
        return { counts, sums: mean };
      },
    });
    expect(average).toMatch(/adds up over micro-batches: conformance: sums\[/);
    const blind = failures({ statistics: ({ mask: _mask, ...rest }) => sound.statistics(rest) });
    expect(blind).toMatch(/ignores masked tokens/);
  });

  it('fails for a leak', () => {
    const found = failures({
      value: (layers) => {
        leaked.push(add(scalar(1), addN([scalar(1), scalar(2)])) as unknown as Tensor2D);
        return sound.value(layers);
      },
    });
    expect(found).toMatch(/must leave 0 tensors/);
  });
});

describe('define…', () => {
  it('refuses definitions that lack members, naming all of them', () => {
    const empty = { name: 'empty' } as never;
    expect(() => defineBalanceLoss(empty)).toThrow(
      'balance loss "empty": statistics: must be a function, got undefined; value: must be a function, got undefined; gradient: must be a function, got undefined',
    );
    expect(() => defineExecutor(empty)).toThrow('accepts: must list at least one route kind');
    expect(() => defineRouter(empty)).toThrow('experts: must be an integer of at least 1, got undefined');
    expect(() => defineExpert(empty)).toThrow('forward: must be a function, got undefined');
    expect(() => defineExpert({ ...identityExpert(), neuronAxis: 'F' })).toThrow(
      'neuronAxis: must be null for these parts, got F',
    );
    expect(() => defineExpert({ ...identityExpert(), parts: { a: ['X' as never] } })).toThrow(
      'parts.a: must list axes F, D or lengths of at least 1, got [X]',
    );
    expect(() => defineExpert({ ...identityExpert(), name: 'Not Kebab' })).toThrow(
      'plugin name: must be kebab-case',
    );
  });
});
