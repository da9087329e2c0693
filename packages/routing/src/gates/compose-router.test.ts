import { Tensor, createEngine, disposeTree, eye, matMul, mul, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it, vi } from 'vitest';

import { parseGateConfig, topKRouter } from '../index.ts';
import { describeRouter, withoutLeak } from '../testing/index.ts';
import { inner, kitRng, valuesOf } from '../testing/checks.ts';
import { chooseTopK, composeRouter, constantScorer, linearScorer, scorerOf } from './index.ts';
import { additiveNoise, gumbelNoise, inputJitter, learnedNoise, weighOnes, weighScores } from './index.ts';
import type { Noise, RouterStages, Scorer, Weigh } from './index.ts';

beforeAll(async () => {
  await createEngine();
});

const experts = 6;
const scorers: Record<string, Scorer> = {
  linear: linearScorer({ columns: experts }),
  'linear with bias': linearScorer({ columns: experts, bias: true }),
  'a function on the tape': scorerOf({
    name: 'double',
    parameterShapes: (modelWidth) => ({ kernel: [modelWidth, experts] }),
    logits: (x, { kernel }) => mul<Tensor2D>(2, matMul(x, kernel as Tensor2D)),
  }),
  constant: constantScorer(experts),
};
const noises: Record<string, Noise> = {
  learned: learnedNoise(experts),
  additive: additiveNoise(0.3),
  jitter: inputJitter(0.2),
  gumbel: gumbelNoise(0.5),
  'jitter and learned': { ...inputJitter(0.2), ...learnedNoise(experts) },
};
const weighs: Record<string, Weigh> = {
  scores: weighScores({ scale: 1.5 }),
  renormalised: weighScores({ renormalise: true }),
  'softmax over the chosen': weighScores({ softmaxChosen: true, scale: 2 }),
  ones: weighOnes(),
};
const plain: RouterStages = {
  name: 'plain',
  experts,
  topK: 2,
  scorer: linearScorer({ columns: experts }),
  score: 'softmax',
  choose: chooseTopK({ topK: 2 }),
  weigh: weighScores(),
};

function composed(title: string, stages: Partial<RouterStages>): void {
  describeRouter(composeRouter({ ...plain, ...stages }), { describe, it, title });
}

describe('every scorer', () => {
  for (const [title, scorer] of Object.entries(scorers)) composed(title, { scorer });
});

describe('every score with every weight', () => {
  for (const score of ['softmax', 'sigmoid', 'sqrt-softplus', 'relu', 'identity'] as const)
    for (const [title, weigh] of Object.entries(weighs)) {
      // The sum of raw logits may be 0.
      if (score === 'identity' && title === 'renormalised') continue;
      composed(`${score}, ${title}`, { score, weigh });
    }
});

describe('every noise', () => {
  for (const [title, noise] of Object.entries(noises)) composed(title, { noise });
});

describe('null experts', () => {
  composed('with a softmax over all columns', {
    nulls: 3,
    scorer: linearScorer({ columns: 9 }),
    weigh: weighScores({ renormalise: true }),
  });
  composed('with noise on all columns', {
    nulls: 2,
    scorer: linearScorer({ columns: 8 }),
    noise: learnedNoise(8),
    score: 'sigmoid',
  });
});

describe('composeRouter', () => {
  it('is the gate of the same settings, bit for bit', () => {
    const settings = {
      renormalised: [{ renormalise: true, renormaliseEpsilon: 1e-20 }, weighs['renormalised']],
      'softmax over the chosen': [{ scoreAfterTopK: true, scale: 2 }, weighs['softmax over the chosen']],
    } as const;
    for (const [gate, weigh] of Object.values(settings)) {
      withoutLeak('equal', () => {
        const x = tensor2d([[0.7, -0.2, 0.5, -1, 2, 0.3]]);
        const parameters = { weight: eye(6) };
        const built = topKRouter(parseGateConfig({ experts, topK: 2, ...gate })).forward(x, parameters, {});
        const made = composeRouter({ ...plain, weigh: weigh as Weigh }).forward(x, parameters, {});
        expect(made.route).toMatchObject({ kind: 'pairs' });
        if (made.route.kind !== 'pairs' || built.route.kind !== 'pairs') return;
        expect(made.route.plan).toEqual(built.route.plan);
        expect(valuesOf(made.route.weights)).toEqual(valuesOf(built.route.weights));
        expect(valuesOf(made.scores)).toEqual(valuesOf(built.scores));
        disposeTree([x, parameters, built, made]);
      });
    }
  });

  it('reads from the device once, forward and for inference', () => {
    const x = tensor2d([[1, 2, 3, 4, 5, 6]]);
    const parameters = { weight: eye(6) };
    const router = composeRouter(plain);
    const spy = vi.spyOn(Tensor.prototype, 'dataSync');
    const output = router.forward(x, parameters, {});
    expect(spy.mock.calls.length).toBe(1);
    const route = router.infer?.(x, parameters, {});
    expect(spy.mock.calls.length).toBe(2);
    spy.mockRestore();
    disposeTree([x, parameters, output, route]);
  });

  it('draws noise only where a generator is given, and the same for the same one', () => {
    withoutLeak('noise', () => {
      const router = composeRouter({ ...plain, noise: additiveNoise(1) });
      const x = tensor2d([[1, 2, 3, 4, 5, 6]]);
      const parameters = { weight: eye(6) };
      const logitsOf = (seed?: string): number[] => {
        const options = seed === undefined ? {} : { rng: kitRng(seed), phase: 'train' as const };
        const output = router.forward(x, parameters, options);
        const values = [...valuesOf(output.logits)];
        disposeTree(output);
        return values;
      };
      expect(logitsOf()).toEqual([1, 2, 3, 4, 5, 6]);
      expect(logitsOf('a')).toEqual(logitsOf('a'));
      expect(logitsOf('a')).not.toEqual(logitsOf('b'));
      expect(logitsOf('a')).not.toEqual(logitsOf());
      disposeTree([x, parameters]);
    });
  });

  it('gives a null expert no pair and its score to nobody', () => {
    withoutLeak('nulls', () => {
      const router = composeRouter({
        ...plain,
        nulls: 2,
        scorer: linearScorer({ columns: 8 }),
        weigh: weighScores({ renormalise: true }),
      });
      // The best two columns: 7 (null) and 1; then both nulls; then 0 and 1.
      const x = tensor2d([
        [0, 5, 0, 0, 0, 0, 0, 9],
        [0, 1, 0, 0, 0, 0, 8, 9],
        [2, 2, 0, 0, 0, 0, 0, 0],
      ]);
      const parameters = { weight: eye(8) };
      const { route, ...rest } = router.forward(x, parameters, {});
      if (route.kind !== 'pairs') throw new Error('pairs expected');
      expect([...route.plan.source]).toEqual([12, 1, 13]);
      const [zero, one, other] = valuesOf(route.weights);
      expect([zero, one, other].map((weight) => weight?.toFixed(6))).toEqual([
        '0.500000',
        '1.000000',
        '0.500000',
      ]);
      expect(inner(valuesOf(rest.scores).slice(0, 6), new Float32Array(6).fill(1))).toBeLessThan(0.05);
      disposeTree([x, parameters, route, rest]);
    });
  });

  it('says what does not fit', () => {
    const x = tensor2d([[1, 2, 3, 4, 5, 6]]);
    const parameters = { weight: eye(6) };
    const router = composeRouter(plain);
    expect(() => router.forward(x, parameters, { mask: new Uint8Array(2) })).toThrow(
      'router "plain" mask length',
    );
    const empty = tensor2d([], [0, 6]);
    expect(() => router.forward(empty, parameters, {})).toThrow(
      'router "plain" x: must have at least 1 token, got 0 (skip the layer for an empty batch)',
    );
    const nan = tensor2d([[1, NaN, 3, 4, 5, 6]]);
    expect(() => router.forward(nan, parameters, { layer: 4 })).toThrow(
      'layers[4] gate logits of token 0: must be finite, got NaN for expert ',
    );
    const wide = composeRouter({ ...plain, scorer: linearScorer({ columns: 7 }) });
    const seven = { weight: tensor2d(new Float32Array(42), [7, 6]) };
    expect(() => wide.forward(x, seven, {})).toThrow('router "plain" logits');
    const twice = composeRouter({ ...plain, noise: { deviation: linearScorer({ columns: 6 }) } });
    expect(() => twice.parameterShapes(4)).toThrow(
      'router "plain": stages must have different names for their tensors, got weight, weight (rename one)',
    );
    const output = router.forward(x, parameters, {});
    const mix = tensor1d([1]);
    expect(() => router.backward(output.saved, { route: { kind: 'merge', mix: mix as never } })).toThrow(
      'router "plain": gradients must be of route kind pairs, got merge (pass back what the executor returned)',
    );
    disposeTree([x, parameters, empty, nan, seven, output, mix]);
  });
});
