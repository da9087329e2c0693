import { isMoebiusError } from '@moebius/core';
import { createEngine, disposeTree, eye, readHostSync, softmax, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { parseGateConfig } from './gate-config.ts';
import { gateBackward, gateForward, gateInference } from './gate.ts';
import type { GateOptions, GateParameters } from './gate.ts';
import type { PairsRoute } from './route.ts';
import { families } from '../test/gate-families.ts';
import { checkLeaks } from '../test/leak-check.ts';

beforeAll(async () => {
  await createEngine();
});

checkLeaks();

/** Experts of one token, best first, with their weights. */
function choicesOf(route: PairsRoute, token = 0): { chosen: number[]; weights: number[] } {
  const { plan, weights } = route;
  const values = readHostSync(weights);
  const slots = Array.from(plan.slot.subarray(plan.tokenOffsets[token], plan.tokenOffsets[token + 1]));
  return { chosen: slots.map((n) => plan.source[n]! % plan.experts), weights: slots.map((n) => values[n]!) };
}

/** Runs a gate whose logits are given: the router is the identity matrix. */
function gateOfLogits(
  rows: readonly (readonly number[])[],
  input: object,
  selectionBias?: readonly number[],
) {
  const config = parseGateConfig(input);
  const x = tensor2d(rows.map((row) => [...row]));
  const weight = eye(config.experts);
  const bias = config.logitBias ? { bias: tensor1d(new Float32Array(config.experts)) } : {};
  const parameters: GateParameters = {
    weight,
    ...bias,
    ...(selectionBias === undefined ? {} : { selectionBias: Float32Array.from(selectionBias) }),
  };
  const output = gateForward(x, parameters, { config });
  const inference = gateInference(x, parameters, { config });
  const [trained, inferred] = [output.route, inference].map((route) =>
    rows.map((_, t) => choicesOf(route, t)),
  );
  disposeTree([x, weight, bias, output, inference]);
  return { trained: trained!, inferred: inferred! };
}

const z = [1.2, -0.4, 0.3, 2.0, 0.0, 1.9, -1.0, 0.7];
const beta = [0, 0.05, -0.02, -0.3, 0.4, 0, 0.1, -0.05];
const v3 = families['DeepSeek-V3'];
const lower = beta.map((value) => value - 1);

const golden: [string, object, readonly number[] | undefined, number[], number[]][] = [
  ['Mixtral, Qwen3', families['Mixtral, Qwen3'], undefined, [3, 5], [0.524979, 0.475021]],
  ['Granite', families.Granite, undefined, [3, 5], [0.524979, 0.475021]],
  ['gpt-oss', families['gpt-oss'], undefined, [3, 5], [0.524979, 0.475021]],
  ['OLMoE, Qwen2', families['OLMoE, Qwen2'], undefined, [3, 5], [0.324126, 0.293281]],
  [
    'DeepSeek-V2 greedy',
    families['DeepSeek-V2 greedy'],
    undefined,
    [3, 5, 0],
    [0.324126, 0.293281, 0.145639],
  ],
  [
    'DeepSeek-V2 grouped',
    families['DeepSeek-V2 grouped'],
    undefined,
    [3, 5, 2],
    [5.186013, 4.692498, 0.947399],
  ],
  ['DeepSeek-V3', v3, beta, [5, 4, 0], [1.016981, 0.584545, 0.898474]],
  ['DeepSeek-V3, bias - 1, fill -∞', v3, lower, [5, 4, 0], [1.016981, 0.584545, 0.898474]],
  [
    'DeepSeek-V3, bias - 1, fill 0',
    families['DeepSeek-V3, fill zero'],
    lower,
    [2, 3, 6],
    [0.832921, 1.277124, 0.389955],
  ],
  ['LongCat', families.LongCat, beta.map((value) => 0.2 * value), [5, 3, 0], [1.759687, 1.944755, 0.873835]],
  ['Switch', families.Switch, undefined, [3], [0.324126]],
];

describe('published gates on the reference logits', () => {
  for (const [name, config, bias, chosen, weights] of golden) {
    it(`${name}: chooses ${chosen.join(', ')}`, () => {
      const { trained, inferred } = gateOfLogits([z], config, bias);
      for (const [token] of [trained, inferred]) {
        const order = [...token!.chosen.keys()].toSorted((a, b) => token!.chosen[a]! - token!.chosen[b]!);
        const expected = [...chosen.keys()].toSorted((a, b) => chosen[a]! - chosen[b]!);
        expect(order.map((i) => token!.chosen[i])).toEqual(expected.map((i) => chosen[i]));
        for (const [i, at] of order.entries())
          expect(token!.weights[at]).toBeCloseTo(weights[expected[i]!]!, 5);
      }
    });
  }

  it('lists the experts of a token best first: by the biased score where there is one', () => {
    expect(gateOfLogits([z], families['DeepSeek-V2 greedy']).trained[0]!.chosen).toEqual([3, 5, 0]);
    expect(
      gateOfLogits(
        [z],
        families.LongCat,
        beta.map((value) => 0.2 * value),
      ).trained[0]!.chosen,
    ).toEqual([5, 3, 0]);
    expect(gateOfLogits([z], families['DeepSeek-V3, fill zero'], lower).trained[0]!.chosen).toEqual([
      2, 3, 6,
    ]);
  });
});

describe('identities', () => {
  const rows = fc.array(
    fc.array(fc.double({ min: -6, max: 6, noNaN: true }), { minLength: 8, maxLength: 8 }),
    {
      minLength: 1,
      maxLength: 4,
    },
  );

  it('(a) softmax, top-k, divide by the sum equals top-k, softmax over the chosen', () => {
    fc.assert(
      fc.property(rows, fc.integer({ min: 1, max: 8 }), (logits, topK) => {
        const divided = gateOfLogits(logits, { experts: 8, topK, renormalise: true });
        const after = gateOfLogits(logits, { experts: 8, topK, scoreAfterTopK: true });
        for (const [t, token] of divided.trained.entries()) {
          expect(after.trained[t]!.chosen).toEqual(token.chosen);
          for (const [i, weight] of token.weights.entries())
            expect(after.trained[t]!.weights[i]).toBeCloseTo(weight, 5);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('(b) without renormalisation the order matters', () => {
    const before = gateOfLogits([z], { experts: 8, topK: 2 }).trained[0]!.weights;
    const after = gateOfLogits([z], { experts: 8, topK: 2, scoreAfterTopK: true }).trained[0]!.weights;
    expect(before[0]! + before[1]!).toBeCloseTo(0.617407, 5);
    expect(after[0]! + after[1]!).toBeCloseTo(1, 6);
  });

  it('(c) a bias on logits is not a bias on scores', () => {
    const added = z.map((logit, e) => logit + (e === 4 ? 0.5 : 0));
    const onScores = z.map((_, e) => (e === 4 ? 0.5 : 0));
    expect(gateOfLogits([added], { experts: 8, topK: 2 }).trained[0]!.chosen).toEqual([3, 5]);
    const { chosen, weights } = gateOfLogits([z], { experts: 8, topK: 2, selectionBias: true }, onScores)
      .trained[0]!;
    expect(chosen).toEqual([4, 3]);
    expect(weights[0]).toBeCloseTo(0.043866, 5);
  });

  it('training and inference choose alike and weigh alike in every family', () => {
    fc.assert(
      fc.property(rows, fc.constantFrom(...Object.keys(families)), (logits, name) => {
        const config = families[name as keyof typeof families];
        const bias = 'selectionBias' in config ? beta : undefined;
        const { trained, inferred } = gateOfLogits(logits, config, bias);
        for (const [t, token] of trained.entries()) {
          expect(inferred[t]!.chosen).toEqual(token.chosen);
          for (const [i, weight] of token.weights.entries()) {
            expect(Math.abs(inferred[t]!.weights[i]! - weight)).toBeLessThan(1e-5 * (1 + Math.abs(weight)));
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('gateInference', () => {
  it('equals gateForward on both sides of the size at which it moves to the device', () => {
    const config = parseGateConfig(families['DeepSeek-V3']);
    for (const tokens of [1024, 1025]) {
      const x = tensor2d(
        Float32Array.from({ length: tokens * 8 }, (_, i) => 3 * Math.sin(i * i)),
        [tokens, 8],
      );
      const weight = eye(8);
      const parameters = { weight, selectionBias: Float32Array.from(beta) };
      const output = gateForward(x, parameters, { config });
      const route = gateInference(x, parameters, { config });
      expect(route.plan).toEqual(output.route.plan);
      const [got, expected] = [route, output.route].map((entry) => readHostSync(entry.weights));
      for (const [n, value] of expected!.entries()) expect(Math.abs(got![n]! - value)).toBeLessThan(1e-5);
      disposeTree([x, weight, output, route]);
    }
  });
});

describe('selection bias', () => {
  it('changes who is chosen, never a weight, and receives no gradient', () => {
    const config = parseGateConfig(families.LongCat);
    const x = tensor2d([z]);
    const weight = eye(8);
    const run = (selectionBias: Float32Array) => gateForward(x, { weight, selectionBias }, { config });
    const [plain, shifted] = [run(new Float32Array(8)), run(new Float32Array(8).fill(0.37))];
    expect([...readHostSync(shifted.route.weights)]).toEqual([...readHostSync(plain.route.weights)]);
    const dweights = tensor1d([1, -2, 0.5]);
    const gradients = gateBackward(plain.saved, { dweights });
    expect(Object.keys(gradients).toSorted()).toEqual(['dweight', 'dx']);
    disposeTree([x, weight, plain, shifted, dweights, gradients]);
  });
});

describe('gateForward', () => {
  const config = parseGateConfig({ experts: 4, topK: 2, renormalise: true });

  function thrownBy(
    rows: number[][],
    parameters: Partial<GateParameters> = {},
    options: Partial<GateOptions> = {},
  ) {
    const x = tensor2d(rows);
    const weight = eye(4);
    const errors = [gateForward, gateInference].map((gate) => {
      try {
        disposeTree(gate(x, { weight, ...parameters }, { config, ...options }));
      } catch (error) {
        if (isMoebiusError(error)) return error;
        throw error;
      }
      return null;
    });
    disposeTree([x, weight]);
    expect(errors[1]?.message).toBe(errors[0]?.message);
    return errors[0]!;
  }

  it('names layer, token and expert of a logit that cannot be routed', () => {
    const bad = thrownBy(
      [
        [0, 1, 2, 3],
        [0, NaN, 0, 0],
      ],
      {},
      { layer: 5 },
    );
    expect(bad.code).toBe('numerics');
    expect(bad.message).toContain('layers[5] gate logits of token 1: must be finite, got NaN for expert ');
    expect(bad.details).toMatchObject({ layer: 5, token: 1 });
    expect(thrownBy([[1e38, 1, 2, 3].map((value) => value * 10)]).code).toBe('numerics');
  });

  it('accepts a NaN in a token that is masked', () => {
    const x = tensor2d([
      [0, 1, 2, 3],
      [NaN, NaN, NaN, NaN],
    ]);
    const weight = eye(4);
    const output = gateForward(x, { weight }, { config, mask: Uint8Array.of(1, 0) });
    expect(output.route.plan.stats).toMatchObject({ pairs: 2, routedTokens: 1 });
    expect([...readHostSync(output.route.weights)].every(Number.isFinite)).toBe(true);
    disposeTree([x, weight, output]);
  });

  it('keeps masked tokens out of the gradient', () => {
    const x = tensor2d([
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [1, 0, 5, 2],
    ]);
    const weight = eye(4);
    const output = gateForward(x, { weight }, { config, mask: Uint8Array.of(1, 0, 1) });
    const dweights = tensor1d([1, 2, -1, 3]);
    const gradients = gateBackward(output.saved, { dweights });
    const dx = [...readHostSync(gradients.dx)];
    expect(dx.slice(4, 8)).toEqual([0, 0, 0, 0]);
    expect(dx.slice(0, 4).some((value) => value !== 0)).toBe(true);
    disposeTree([x, weight, output, dweights, gradients]);
  });

  it('routes nothing when every token is masked, and its gradient is zero', () => {
    const x = tensor2d([[0, 1, 2, 3]]);
    const weight = eye(4);
    for (const input of [
      config,
      parseGateConfig({ experts: 4, topK: 1 }),
      parseGateConfig({ experts: 4, topK: 2, scoreAfterTopK: true }),
    ]) {
      const output = gateForward(x, { weight }, { config: input, mask: Uint8Array.of(0) });
      expect(output.route.plan.stats.pairs).toBe(0);
      expect(output.route.weights.shape).toEqual([0]);
      const dweights = tensor1d([], 'float32');
      const gradients = gateBackward(output.saved, { dweights });
      expect([...readHostSync(gradients.dx)].map(Math.abs)).toEqual([0, 0, 0, 0]);
      const route = gateInference(x, { weight }, { config: input, mask: Uint8Array.of(0) });
      expect(route.weights.shape).toEqual([0]);
      disposeTree([output, dweights, gradients, route]);
    }
    disposeTree([x, weight]);
  });

  it('gives scores for the losses even when weights come after the top-k', () => {
    const x = tensor2d([z]);
    const weight = eye(8);
    const output = gateForward(x, { weight }, { config: parseGateConfig(families.Granite) });
    const expected = softmax(x);
    expect([...readHostSync(output.scores)]).toEqual([...readHostSync(expected)]);
    disposeTree([x, weight, output, expected]);
  });

  it('says what is missing or does not fit', () => {
    const bias = tensor1d([0, 0, 0, 0]);
    expect(thrownBy([[0, 1, 2, 3]], { bias }).message).toBe(
      'gate bias: must be absent when config.logitBias is false, got one (change the configuration or the parameters)',
    );
    bias.dispose();
    const biased = parseGateConfig({ experts: 4, topK: 2, selectionBias: true });
    expect(thrownBy([[0, 1, 2, 3]], {}, { config: biased })).toMatchObject({ code: 'configuration' });
    expect(
      thrownBy([[0, 1, 2, 3]], { selectionBias: new Float32Array(3) }, { config: biased }),
    ).toMatchObject({ code: 'shape' });
    expect(thrownBy([[0, 1, 2]])).toMatchObject({ code: 'shape' });
    expect(thrownBy([[0, 1, 2, 3]], {}, { mask: new Uint8Array(2) })).toMatchObject({ code: 'shape' });
    expect(thrownBy([[0, 1, 2, 3]], {}, { config: parseGateConfig({ experts: 5, topK: 1 }) })).toMatchObject({
      code: 'shape',
    });
    const empty = tensor2d([], [0, 4]) as Tensor2D;
    const weight = eye(4);
    expect(() => gateForward(empty, { weight }, { config })).toThrow(
      'gate x: must have at least 1 token, got 0',
    );
    disposeTree([empty, weight]);
  });

  it('refuses a backward without any gradient, or with one of another shape', () => {
    const x = tensor2d([[0, 1, 2, 3]]);
    const weight = eye(4);
    const output = gateForward(x, { weight }, { config });
    const wrong = tensor1d([1, 2, 3]);
    expect(() => gateBackward(output.saved, {})).toThrow(
      'must get at least one of dweights, dlogits, dscores',
    );
    expect(() => gateBackward(output.saved, { dweights: wrong })).toThrow('gate dweights: N');
    disposeTree([x, weight, output, wrong]);
  });
});
