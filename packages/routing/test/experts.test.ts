import { createRng, runSync } from '@moebius/core';
import { createEngine, disposeTree, mul, sub, tensor, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import {
  adaptedExpert,
  clampedGatedExpert,
  constantExpert,
  ia3Expert,
  loraExpert,
  lowRankExpert,
  mergeAdapter,
  splitGateUp,
} from '../src/experts/index.ts';
import {
  countExpertParameters,
  createLocalExecutor,
  createResidentSource,
  defineExpert,
  gatedExpert,
  identityExpert,
  nullExpert,
  partShape,
  planTopK,
  plainExpert,
} from '../src/index.ts';
import type { DispatchPlan, ExpertKind, ExpertParameters } from '../src/index.ts';
import { kitRng, randomTensor, randomValues, valuesOf, withoutLeak } from '../src/testing/checks.ts';
import { checkClose, describeExecutor, describeExpert } from '../src/testing/index.ts';

const api = { describe, it };
const size = { modelWidth: 6, hiddenWidth: 8 };

beforeAll(async () => {
  await createEngine();
});

const lora = loraExpert({ rank: 2, alpha: 3 });
const everyKind: readonly ExpertKind[] = [
  constantExpert(),
  constantExpert({ mixed: true }),
  clampedGatedExpert(),
  clampedGatedExpert({ limit: 0.6, slope: 1 }),
  lora,
  loraExpert({ base: plainExpert({ activation: 'gelu', bias: true }), rank: 3, alpha: 0.5 }),
  loraExpert({ base: gatedExpert({ activation: 'relu' }), rank: 1, alpha: 1, targets: ['gate', 'down'] }),
  loraExpert({ rank: 2, alpha: 4, scope: 'expert' }),
  ia3Expert(),
  ia3Expert({ base: plainExpert({ activation: 'relu' }), scope: 'expert' }),
  lowRankExpert({ rank: 2, alpha: 5 }),
];
for (const kind of everyKind) describeExpert(kind, api);

const anotherLora = loraExpert({ rank: 2, alpha: 4, scope: 'expert' });
describeExecutor(createLocalExecutor(), {
  ...api,
  layers: [
    { title: 'LoRA experts on one base, fused', kinds: [lora, lora, lora, lora] },
    { title: 'IA3 experts on one base, fused', kinds: Array.from({ length: 4 }, () => ia3Expert()) },
    {
      title: 'adapters, constants and clamped experts in one list',
      kinds: [lora, constantExpert(), anotherLora, lowRankExpert({ rank: 1 }), clampedGatedExpert(), lora],
    },
  ],
});

/** Random parts of a kind, its base included. */
function randomParts(kind: ExpertKind, label: string): ExpertParameters {
  const rng = kitRng(label);
  const parts = [...Object.keys(kind.base?.kind.parts ?? {}), ...Object.keys(kind.parts)];
  return Object.fromEntries(
    parts.map((part) => [part, randomTensor(rng.fork(part), partShape(kind, part, size), 0.5)]),
  );
}

/** The parts of an expert as the kind begins them, on a random base. */
function firstParts(kind: ExpertKind, base: ExpertParameters): ExpertParameters {
  const own = Object.keys(kind.parts).map((part): [string, Tensor] => {
    const shape = partShape(kind, part, size);
    const values = kind.initialise?.(part, { shape, rng: createRng(part), standardDeviation: 0.02 });
    return [part, tensor(values ?? [], shape, 'float32')];
  });
  return { ...Object.fromEntries(own), ...base };
}

function runLayer(
  kinds: readonly ExpertKind[],
  parameters: readonly ExpertParameters[],
  input: { readonly x: Tensor2D; readonly plan: DispatchPlan; readonly path: 'auto' | 'general' },
): Float32Array {
  const { x, plan, path } = input;
  const weights = tensor1d(randomValues(kitRng('weights'), plan.token.length), 'float32');
  const experts = createResidentSource({ kinds, read: (_layer, e) => parameters[e] ?? {} });
  const route = { kind: 'pairs' as const, plan, weights };
  const { y, saved } = runSync(
    createLocalExecutor({ path }).forward({ layer: 0, hidden: x, route, experts }),
  );
  const values = valuesOf(y);
  disposeTree([weights, y, saved]);
  return values;
}

describe('clamped gated expert of gpt-oss', () => {
  it('E1: loop and batched agree, values and gradients of the clamps included', () => {
    withoutLeak('clamped', () => {
      const kind = clampedGatedExpert({ limit: 0.5 });
      const parts = randomParts(kind, 'clamped');
      const x = randomTensor<Tensor2D>(kitRng('x'), [5, 6], 2);
      const { value, saved } = kind.forward(x, parts);
      checkClose(valuesOf(value), clampedLoop(valuesOf(x), parts, 0.5), 'clamped', {
        relative: 1e-5,
        absolute: 1e-5,
      });
      disposeTree([parts, x, value, saved]);
    });
  });

  it('E1: takes gate and up out of one tensor, interleaved or in halves', () => {
    withoutLeak('split', () => {
      const matrix = tensor2d([
        [1, 2],
        [3, 4],
        [5, 6],
        [7, 8],
      ]);
      const bias = tensor1d([1, 2, 3, 4]);
      const turns = splitGateUp(matrix, 'interleaved');
      const halves = splitGateUp(matrix, 'halves');
      const biases = splitGateUp(bias, 'interleaved');
      expect([...valuesOf(turns.gate)]).toEqual([1, 2, 5, 6]);
      expect([...valuesOf(turns.up)]).toEqual([3, 4, 7, 8]);
      expect([...valuesOf(halves.gate)]).toEqual([1, 2, 3, 4]);
      expect([...valuesOf(halves.up)]).toEqual([5, 6, 7, 8]);
      expect([...valuesOf(biases.gate), ...valuesOf(biases.up)]).toEqual([1, 3, 2, 4]);
      disposeTree([matrix, bias, turns, halves, biases]);
    });
  });

  it('refuses settings that are not above 0', () => {
    expect(() => clampedGatedExpert({ limit: 0 })).toThrow(
      /^clampedGatedExpert\.limit: must be above 0, got 0$/,
    );
    expect(() => clampedGatedExpert({ slope: NaN })).toThrow(
      /^clampedGatedExpert\.slope: must be above 0, got NaN$/,
    );
  });
});

/** hf-moe-models §3.9, one number at a time. */
function clampedLoop(x: Float32Array, parts: ExpertParameters, limit: number): number[] {
  const of = (part: string): Float32Array => valuesOf(parts[part]!);
  const [gate, up, down] = [of('gate'), of('up'), of('down')];
  const [gateBias, upBias, downBias] = [of('gateBias'), of('upBias'), of('downBias')];
  const y: number[] = [];
  for (let r = 0; r < 5; r += 1) {
    const row = Array.from(downBias);
    for (let f = 0; f < 8; f += 1) {
      let [g, u] = [gateBias[f]!, upBias[f]!];
      for (let d = 0; d < 6; d += 1) {
        g += x[r * 6 + d]! * gate[f * 6 + d]!;
        u += x[r * 6 + d]! * up[f * 6 + d]!;
      }
      const clamped = Math.min(g, limit);
      const bounded = Math.max(-limit, Math.min(u, limit));
      const h = ((bounded + 1) * clamped) / (1 + Math.exp(-1.702 * clamped));
      for (let d = 0; d < 6; d += 1) row[d]! += h * down[f * 6 + d]!;
    }
    y.push(...row);
  }
  return y;
}

describe('experts without neurons', () => {
  it('E5: a token routed only to identity returns w·x, to null 0, to a constant w·v', () => {
    withoutLeak('zero parameters', () => {
      const vector = tensor1d([1, -2, 3, -4, 5, -6]);
      const x = randomTensor<Tensor2D>(kitRng('x'), [3, 6]);
      const plan = planTopK(Int32Array.of(0, 1, 2), { tokens: 3, experts: 3, topK: 1 });
      const parameters = [{}, {}, { vector }];
      const kinds = [identityExpert(), nullExpert(), constantExpert()];
      const y = runLayer(kinds, parameters, { x, plan, path: 'auto' });
      const weights = randomValues(kitRng('weights'), 3);
      const rows = valuesOf(x);
      const expected = [
        ...rows.subarray(0, 6).map((value) => value * weights[0]!),
        ...new Float32Array(6),
        ...valuesOf(vector).map((value) => value * weights[2]!),
      ];
      checkClose(y, expected, 'y', { relative: 1e-6, absolute: 1e-7 });
      disposeTree([vector, x]);
    });
  });
});

describe('P1: experts on a frozen base', () => {
  const plan = planTopK(Int32Array.of(0, 1, 1, 2, 2, 0, 3, 1), { tokens: 4, experts: 4, topK: 2 });

  for (const kind of [
    lora,
    ia3Expert(),
    loraExpert({ base: plainExpert({ bias: true }), rank: 2, alpha: 1 }),
  ]) {
    for (const path of ['auto', 'general'] as const) {
      it(`${kind.name} as it begins gives the bytes of its base, ${path} path`, () => {
        withoutLeak(kind.name, () => {
          const baseKind = kind.base!.kind;
          const base = randomParts(baseKind, 'base');
          const x = randomTensor<Tensor2D>(kitRng('x'), [4, 6]);
          const adapted = [0, 1, 2, 3].map(() => firstParts(kind, base));
          const y = runLayer([kind, kind, kind, kind], adapted, { x, plan, path });
          const dense = runLayer(
            [0, 1, 2, 3].map(() => baseKind),
            adapted.map(() => base),
            { x, plan, path },
          );
          expect(y).toEqual(dense);
          disposeTree([base, adapted, x]);
        });
      });
    }
  }

  it('only adapters have a gradient, of experts without rows and of layers without pairs too', () => {
    for (const path of ['auto', 'general'] as const) {
      for (const chosen of [
        plan,
        planTopK(new Int32Array(8), { tokens: 4, experts: 4, topK: 2, mask: new Uint8Array(4) }),
        planTopK(Int32Array.of(0, 0, 0, 1), { tokens: 4, experts: 4, topK: 1 }),
      ]) {
        withoutLeak(path, () => {
          const base = randomParts(lora.base!.kind, 'base');
          const parameters = [0, 1, 2, 3].map((e) => ({ ...randomOwn(lora, `expert ${e}`), ...base }));
          const experts = createResidentSource({
            kinds: parameters.map(() => lora),
            read: (_layer, e) => parameters[e] ?? {},
          });
          const executor = createLocalExecutor({ path });
          const hidden = randomTensor<Tensor2D>(kitRng('x'), [4, 6]);
          const weights = tensor1d(randomValues(kitRng('w'), chosen.token.length), 'float32');
          const route = { kind: 'pairs' as const, plan: chosen, weights };
          const { y, saved } = runSync(executor.forward({ layer: 0, hidden, route, experts }));
          const gradients = runSync(executor.backward(saved, y));
          for (const own of gradients.experts)
            expect(Object.keys(own).toSorted()).toEqual(Object.keys(lora.parts).toSorted());
          disposeTree([base, parameters, hidden, weights, y, saved, gradients]);
        });
      }
    }
  });

  it('a merged expert is a dense expert that computes the same', () => {
    withoutLeak('merge', () => {
      const parameters = randomParts(lora, 'merge');
      const x = randomTensor<Tensor2D>(kitRng('x'), [4, 6]);
      const dense = mergeAdapter(lora, parameters);
      expect(dense.kind.name).toBe('gated-silu');
      expect(Object.keys(dense.parameters)).toEqual(['gate', 'up', 'down']);
      const [before, after] = [lora.forward(x, parameters), dense.kind.forward(x, dense.parameters)];
      expect(valuesOf(after.value)).toEqual(valuesOf(before.value));
      disposeTree([parameters, x, dense.parameters, before, after]);
    });
    expect(() => mergeAdapter(gatedExpert(), {})).toThrow(
      'mergeAdapter "gated-silu": must be a valid configuration, got 1 fault:\n  base: must be there, got none (it is a dense expert already)',
    );
  });

  it('adapters saved alone bring an expert back on the same base', () => {
    withoutLeak('adapters', () => {
      const base = randomParts(lora.base!.kind, 'base');
      const trained = randomOwn(lora, 'trained');
      const x = randomTensor<Tensor2D>(kitRng('x'), [3, 6]);
      const before = lora.forward(x, { ...base, ...trained });
      const file = Object.fromEntries(
        Object.keys(lora.parts).map((part) => [part, Array.from(valuesOf(trained[part]!))]),
      );
      const loaded = Object.fromEntries(
        Object.entries(JSON.parse(JSON.stringify(file)) as Record<string, number[]>).map(([part, values]) => [
          part,
          tensor(values, partShape(lora, part, size)),
        ]),
      );
      const after = lora.forward(x, { ...base, ...loaded });
      expect(valuesOf(after.value)).toEqual(valuesOf(before.value));
      disposeTree([base, trained, x, before, loaded, after]);
    });
  });

  it('experts that each have a base of their own are not merged by a route', () => {
    withoutLeak('merge route', () => {
      const parameters = [0, 1].map((e) => randomParts(anotherLora, `expert ${e}`));
      const experts = createResidentSource({
        kinds: [anotherLora, anotherLora],
        read: (_layer, e) => parameters[e] ?? {},
      });
      const hidden = randomTensor<Tensor2D>(kitRng('x'), [2, 6]);
      const mix = tensor2d([[0.5, 0.5]]);
      const route = { kind: 'merge' as const, mix, group: new Int32Array(2) };
      expect(() => runSync(createLocalExecutor().forward({ layer: 1, hidden, route, experts }))).toThrow(
        'layers[1] executor local: experts that are merged must stand on one base, got lora-r2-a4-own-gated-silu with a base for each (merge their adapters first, or route pairs)',
      );
      disposeTree([parameters, hidden, mix]);
    });
  });

  it('counts what an expert has to itself', () => {
    const gated = 3 * 6 * 8;
    const adapters = 3 * 2 * (6 + 8);
    expect(countExpertParameters(lora, size)).toBe(adapters);
    expect(countExpertParameters(anotherLora, size)).toBe(adapters + gated);
    expect(partShape(lora, 'gate', size)).toEqual([8, 6]);
    expect(partShape(lora, 'downB', size)).toEqual([8, 2]);
  });

  it('refuses settings that cannot be, all at once', () => {
    expect(() => loraExpert({ rank: 0, alpha: -1, targets: ['side'] })).toThrow(
      [
        'loraExpert: must be a valid configuration, got 3 faults:',
        '  rank: must be an integer of at least 1, got 0',
        '  alpha: must be above 0, got -1',
        '  targets: must be matrices of gated-silu (gate, up, down), got side',
      ].join('\n'),
    );
    expect(() => ia3Expert({ base: identityExpert() })).toThrow(
      'ia3Expert: must be a valid configuration, got 1 fault:\n  base: must have a part down [F, D], got identity',
    );
    expect(() => lowRankExpert({ rank: 0.5 })).toThrow(
      'lowRankExpert: must be a valid configuration, got 1 fault:\n  rank: must be an integer of at least 1, and alpha above 0, got 0.5, 0.5',
    );
    expect(() => defineExpert({ ...lora, parts: { gate: [2, 'D'] }, neuronAxis: null })).toThrow(
      'parts.gate: must not be a part of the base "gated-silu" too',
    );
  });

  it('takes adapters of your own', () => {
    withoutLeak('own adapter', () => {
      const shift = adaptedExpert({
        name: 'shifted',
        base: constantExpert(),
        scope: 'layer',
        parts: { shift: ['D'] },
        merge: ({ vector, shift: by }) => ({ vector: sub(vector!, by!) }),
        backward: (_parameters, { vector }) => ({ shift: mul(vector!, -1) }),
        initialise: (_part, { shape }) => new Float32Array(shape[0] ?? 0),
      });
      const parts = randomParts(shift, 'shift');
      const x = randomTensor<Tensor2D>(kitRng('x'), [2, 6]);
      const { value, saved } = shift.forward(x, parts);
      checkClose(
        valuesOf(value).subarray(0, 6),
        valuesOf(parts['vector']!).map((v, i) => v - valuesOf(parts['shift']!)[i]!),
        'value',
      );
      disposeTree([parts, x, value, saved]);
    });
  });
});

function randomOwn(kind: ExpertKind, label: string): ExpertParameters {
  return Object.fromEntries(
    Object.keys(kind.parts).map((part) => [
      part,
      randomTensor(kitRng(label).fork(part), partShape(kind, part, size), 0.5),
    ]),
  );
}
