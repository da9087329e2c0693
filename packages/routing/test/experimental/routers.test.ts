import { createRng } from '@moebius/core';
import { createEngine, disposeTree, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import {
  consistencyBackward,
  consistencyForward,
  dselectEntropyBackward,
  dselectEntropyForward,
  dselectK,
  dselectKRouter,
  stableMoe,
  thor,
  thorRouter,
} from '../../src/experimental/index.ts';
import type { Router, RouterOptions, RouterOutput, RouterParameters } from '../../src/index.ts';
import {
  inner,
  kitRng,
  randomTensor,
  randomValues,
  valuesOf,
  withoutLeak,
} from '../../src/testing/checks.ts';
import { checkClose, checkGradient, describeRouter } from '../../src/testing/index.ts';

const api = { describe, it };
const width = 5;

beforeAll(async () => {
  await createEngine();
});

describeRouter(thorRouter({ experts: 4 }), { ...api, title: 'thor, both' });
describeRouter(thorRouter({ experts: 4, pass: 'first', scope: 'sequence' }), {
  ...api,
  title: 'thor, first',
});
describeRouter(dselectKRouter({ experts: 4, topK: 2 }), { ...api, title: 'dselect-k' });
describeRouter(dselectKRouter({ experts: 8, topK: 3, gamma: 16 }), { ...api, title: 'dselect-k, wide step' });

function run(
  router: Router,
  request: {
    readonly tokens: number;
    readonly parameters?: RouterParameters;
    readonly options?: RouterOptions;
  },
): { readonly experts: number[][]; readonly output: RouterOutput } {
  const x = randomTensor<Tensor2D>(kitRng('x'), [request.tokens, width]);
  const output = router.forward(x, request.parameters ?? {}, request.options ?? {});
  x.dispose();
  const { route } = output;
  if (route.kind !== 'pairs') throw new TypeError('pairs');
  const { plan } = route;
  const experts = Array.from({ length: request.tokens }, (_, t) =>
    Array.from(
      plan.slot.subarray(plan.tokenOffsets[t], plan.tokenOffsets[t + 1]),
      (n) => plan.source[n]! % plan.experts,
    ),
  );
  return { experts, output };
}

describe('G13: THOR', () => {
  it('draws two different experts for every token, all of them alike', () => {
    withoutLeak('thor', () => {
      const { experts, output } = run(thorRouter({ experts: 5 }), {
        tokens: 4000,
        options: { phase: 'train', rng: createRng(3) },
      });
      const counts = [0, 0, 0, 0, 0];
      for (const pair of experts) {
        expect(new Set(pair).size).toBe(2);
        for (const e of pair) counts[e]! += 1;
      }
      // 8,000 draws of 5: 1,600 each, standard deviation 31.
      for (const count of counts) expect(Math.abs(count - 1600)).toBeLessThan(5 * 31);
      disposeTree(output);
    });
  });

  it('the two passes of one draw run the two experts that both runs together', () => {
    withoutLeak('thor passes', () => {
      const options = (): RouterOptions => ({ phase: 'train', rng: createRng(7), sequences: 2 });
      for (const scope of ['token', 'sequence'] as const) {
        const [both, first, second] = (['mean', 'first', 'second'] as const).map((pass) =>
          run(thorRouter({ experts: 4, pass, scope }), { tokens: 6, options: options() }),
        );
        for (let t = 0; t < 6; t += 1) {
          expect([first!.experts[t]![0], second!.experts[t]![0]].toSorted()).toEqual(
            both!.experts[t]!.toSorted(),
          );
        }
        if (scope === 'sequence') expect(new Set(first!.experts.slice(0, 3).flat()).size).toBe(1);
        disposeTree([both, first, second].map((entry) => entry!.output));
      }
    });
  });

  it('consistency is half of both divergences, 0 for equal predictions, with its gradient', () => {
    withoutLeak('consistency', () => {
      const [left, right] = ['left', 'right'].map((name) => randomTensor<Tensor2D>(kitRng(name), [3, 4]));
      const { value, saved } = consistencyForward(left!, right!);
      const [p, q] = [left!, right!].map((logits) => softmaxRows(valuesOf(logits), 4));
      const expected = inner(
        p!.map((value_, i) => value_ - q![i]!),
        p!.map((value_, i) => Math.log(value_) - Math.log(q![i]!)),
      );
      expect(value).toBeCloseTo(expected / 6, 5);
      const gradients = consistencyBackward(saved, 2);
      checkGradient(valuesOf(gradients.dleft), {
        subject: 'dleft',
        at: valuesOf(left!),
        f: (values) => {
          const moved = tensor2d(values, [3, 4]);
          const run_ = consistencyForward(moved, right!);
          disposeTree([moved, run_.saved]);
          return 2 * run_.value;
        },
      });
      const same = consistencyForward(left!, left!);
      expect(same.value).toBeCloseTo(0, 6);
      disposeTree([left, right, saved, gradients, same.saved]);
    });
  });

  it('is a router by name, and refuses what it cannot be', () => {
    const place = { layer: 1, place: 0, sparseLayers: 1, experts: 4, topK: 2, modelWidth: 8 };
    expect(thor.create(place, { pass: 'first' }).topK).toBe(1);
    expect(() => thorRouter({ experts: 1, seed: -1 })).toThrow(
      /^thor: must be a valid configuration, got 2 faults:\n {2}experts: .*\n {2}seed: /,
    );
  });
});

function softmaxRows(logits: Float32Array, columns: number): number[] {
  const exp = Array.from(logits, Math.exp);
  const total = exp.map((_, i) => {
    const from = Math.floor(i / columns) * columns;
    return exp.slice(from, from + columns).reduce((a, b) => a + b, 0);
  });
  return exp.map((value, i) => value / total[i]!);
}

function randomParameters(router: Router, scale: number): RouterParameters {
  return Object.fromEntries(
    Object.entries(router.parameterShapes(width)).map(([name, shape]) => [
      name,
      randomTensor(kitRng(name), shape, scale),
    ]),
  );
}

/** The formula of the paper, expert by expert. */
function dselectLoop(row: number[], own: Record<string, Float32Array>, gamma: number): number[] {
  const [experts, selectors, bits] = [4, 2, 2];
  const step = (t: number): number => {
    if (t <= -gamma / 2) return 0;
    if (t >= gamma / 2) return 1;
    return (-2 / gamma ** 3) * t ** 3 + (3 / (2 * gamma)) * t + 0.5;
  };
  const dot = (name: string, i: number): number =>
    inner(own[name]!.subarray(i * width, (i + 1) * width), row);
  const shares = softmaxRows(Float32Array.of(dot('selectors', 0), dot('selectors', 1)), 2);
  return Array.from({ length: experts }, (_, e) => {
    let weight = 0;
    for (let i = 0; i < selectors; i += 1) {
      let product = shares[i]!;
      for (let b = 0; b < bits; b += 1) {
        const on = step(dot('codes', i * bits + b) + own['codesBias']![i * bits + b]!);
        product *= Math.floor(e / 2 ** b) % 2 === 1 ? on : 1 - on;
      }
      weight += product;
    }
    return weight;
  });
}

describe('G8: DSelect-k', () => {
  it('equals the published formula; rows of weights sum to 1; experts are on where the weight is', () => {
    withoutLeak('dselect-k', () => {
      for (const gamma of [1, 5]) {
        const router = dselectKRouter({ experts: 4, topK: 2, gamma });
        const parameters = randomParameters(router, 0.6);
        const { experts, output } = run(router, { tokens: 6, parameters });
        const x = randomValues(kitRng('x'), 6 * width);
        const own = Object.fromEntries(
          Object.entries(parameters).map(([name, tensor]) => [name, valuesOf(tensor)]),
        );
        for (let t = 0; t < 6; t += 1) {
          const expected = dselectLoop(Array.from(x.subarray(t * width, (t + 1) * width)), own, gamma);
          const got = valuesOf(output.scores).subarray(t * 4, (t + 1) * 4);
          checkClose(got, expected, `weights of token ${t}`, { relative: 1e-4, absolute: 1e-5 });
          checkClose([got.reduce((a, b) => a + b, 0)], [1], 'sum', { absolute: 1e-5 });
          expect(experts[t]!.toSorted()).toEqual([0, 1, 2, 3].filter((e) => got[e]! > 0));
        }
        disposeTree([parameters, output]);
      }
    });
  });

  it('has from 1 to k experts once every bit is decided, and up to E before', () => {
    withoutLeak('decided', () => {
      const router = dselectKRouter({ experts: 8, topK: 3 });
      const decided = randomParameters(router, 400);
      const open = Object.fromEntries(
        Object.entries(decided).map(([name, { shape }]) => [name, randomTensor(kitRng(name), shape, 0.001)]),
      );
      const [sharp, soft] = [decided, open].map((parameters) => run(router, { tokens: 40, parameters }));
      for (const list of sharp!.experts) {
        expect(list.length).toBeGreaterThanOrEqual(1);
        expect(list.length).toBeLessThanOrEqual(3);
      }
      expect(soft!.experts.every((list) => list.length === 8)).toBe(true);
      disposeTree([decided, open, sharp!.output, soft!.output]);
    });
  });

  it('has an entropy: 0 decided, K ln E open, with a gradient that reaches rows and codes only', () => {
    withoutLeak('entropy', () => {
      const settings = { experts: 4, topK: 2, gamma: 4 };
      const router = dselectKRouter(settings);
      const x = randomTensor<Tensor2D>(kitRng('x'), [3, width]);
      const parameters = randomParameters(router, 0.4);
      const ends = [400, 0].map((scale) => {
        const own = randomParameters(router, scale);
        const { value, saved } = dselectEntropyForward(x, own, settings);
        disposeTree([own, saved]);
        return value;
      });
      expect(ends[0]).toBeCloseTo(0, 5);
      expect(ends[1]).toBeCloseTo(2 * Math.log(4), 4);
      const { value, saved } = dselectEntropyForward(x, parameters, settings);
      expect(value).toBeGreaterThan(0);
      const gradients = dselectEntropyBackward(saved, 3);
      const check = (
        subject: string,
        gradient: Tensor,
        at: Tensor,
        own: (moved: Tensor) => RouterParameters,
      ): void =>
        checkGradient(valuesOf(gradient), {
          subject,
          at: valuesOf(at),
          f: (values) => {
            const flat = tensor2d(values, [1, values.length]);
            const moved = flat.reshape(at.shape);
            const entropy = dselectEntropyForward(
              subject === 'dx' ? (moved as Tensor2D) : x,
              own(moved),
              settings,
            );
            disposeTree([flat, moved, entropy.saved]);
            return 3 * entropy.value;
          },
        });
      check('dx', gradients.dx, x, () => parameters);
      for (const name of ['codes', 'codesBias', 'selectors'])
        check(name, gradients.parameters[name]!, parameters[name]!, (moved) => ({
          ...parameters,
          [name]: moved,
        }));
      expect(valuesOf(gradients.parameters['selectors']!).every((v) => v === 0)).toBe(true);
      disposeTree([x, parameters, saved, gradients]);
    });
  });

  it('is a router by name, and refuses a number of experts without codes', () => {
    const place = { layer: 1, place: 0, sparseLayers: 1, experts: 8, topK: 2, modelWidth: 8 };
    expect(dselectK.create(place, {}).parameterShapes(3)).toEqual({
      codes: [6, 3],
      codesBias: [6],
      selectors: [2, 3],
    });
    expect(() => dselectKRouter({ experts: 6, topK: 2 })).toThrow(
      'dselect-k: must be a valid configuration, got 1 fault:\n  experts: must be a power of 2, one expert for each code, got 6 (use 8)',
    );
    expect(stableMoe.name).toBe('stable-moe');
  });
});
