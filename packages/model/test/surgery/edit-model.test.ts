import { createRng, runSync } from '@moebius/core';
import { topKRouter } from '@moebius/routing';
import { loraExpert } from '@moebius/routing/experts';
import { disposeTree } from '@moebius/tensor';
import { expectNoTensorLeak } from '@moebius/tensor/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createModel, initialiseParameters } from '../../src/index.ts';
import { editModelExperts, modelOfValues, valuesOfModel } from '../../src/surgery/index.ts';
import { cosineFactory } from '../plugin-routers.ts';
import { prepareEngine } from '../prepare-engine.ts';
import { tinyConfig, tinyIds, tinyModel } from '../tiny-model.ts';
import { logitsOf, logitsOfValues, relativeDifference, takeValues } from './run-model.ts';

await prepareEngine();
expectNoTensorLeak();

const partsOfExpert = ['gate', 'up', 'down'];
const expertId = (layer: number, expert: number, part: string): string =>
  `model.layers.${layer}.mlp.experts.${expert}.${part}_proj.weight`;
const routerId = (layer: number): string => `model.layers.${layer}.mlp.gate.weight`;

describe('adding and removing experts of a model', () => {
  const before = takeValues(tinyModel());

  it('T5: experts that stay keep every bit, in weights and in router rows; everything else is as it was', () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray([0, 1, 2, 3], { maxLength: 2 }),
        fc.array(fc.oneof(fc.constant('fresh' as const), fc.record({ copyOf: fc.nat(3) })), { maxLength: 2 }),
        (remove, add) => {
          const { values, report, edits } = editModelExperts(before, { remove, add, topK: 1 });
          const kept = [0, 1, 2, 3].filter((expert) => !remove.includes(expert));
          expect(values.config.num_experts).toBe(kept.length + add.length);
          for (const layer of [0, 2]) {
            expect(edits.get(layer)?.removed).toEqual(remove.toSorted((a, b) => a - b));
            for (const [place, expert] of kept.entries()) {
              for (const part of partsOfExpert) {
                expect(values.read(expertId(layer, place, part))).toEqual(
                  before.read(expertId(layer, expert, part)),
                );
              }
              const row = values.read(routerId(layer)).subarray(place * 8, place * 8 + 8);
              expect(row).toEqual(before.read(routerId(layer)).subarray(expert * 8, expert * 8 + 8));
            }
          }
          const others = report.tensors.filter(({ id }) => !/experts|mlp\.gate\.weight/.test(id));
          for (const { id, fate } of others) {
            expect(fate).toBe('kept');
            expect(values.read(id)).toEqual(before.read(id));
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it('T5: removing an expert that no token chooses changes nothing', () => {
    const model = tinyModel({ num_experts: 8, num_experts_per_tok: 1, norm_topk_prob: true });
    const idle: { [layer: number]: number[] } = {};
    const output = runSync(
      model.forward(
        { ids: tinyIds(12) },
        {
          observe: (layer, { plan }) => {
            idle[layer] = [[...plan.stats.load].indexOf(0)];
          },
        },
      ),
    );
    disposeTree(output);
    expect(idle).toEqual({ 0: [expect.any(Number)], 2: [expect.any(Number)] });
    const { values } = editModelExperts(valuesOfModel(model), { remove: idle });
    expect(relativeDifference(logitsOfValues(values), logitsOf(model))).toBeLessThan(1e-6);
    model.dispose();
  });

  it('T5: taking an added expert away again gives the model back', () => {
    const grown = editModelExperts(before, { add: [{ copyOf: 1 }] });
    const back = editModelExperts(grown.values, { remove: [4] });
    expect(back.values.config).toEqual(before.config);
    for (const { id } of back.report.tensors) expect(back.values.read(id)).toEqual(before.read(id));
  });

  it('a copy is its original plus noise, a fresh expert starts as the family’s do', () => {
    const { values, report } = editModelExperts(before, {
      add: [{ copyOf: 2 }, 'fresh'],
      noise: 0.1,
      seed: 4,
    });
    const copy = values.read(expertId(0, 4, 'up'));
    const difference = relativeDifference(copy, before.read(expertId(0, 2, 'up')));
    expect(difference).toBeGreaterThan(0.01);
    expect(difference).toBeLessThan(0.5);
    expect(report.tensors.find(({ id }) => id === expertId(0, 4, 'up'))).toEqual({
      id: expertId(0, 4, 'up'),
      fate: 'copied',
      from: [expertId(0, 2, 'up')],
    });
    expect(report.tensors.find(({ id }) => id === expertId(2, 5, 'down'))).toMatchObject({
      fate: 'fresh',
      from: [],
    });
    expect(logitsOfValues(values).every((value) => Number.isFinite(value))).toBe(true);
  });

  it('layers may lose different experts', () => {
    const { values, report } = editModelExperts(before, { remove: { 0: [0], 2: [3] } });
    expect(values.read(expertId(0, 0, 'up'))).toEqual(before.read(expertId(0, 1, 'up')));
    expect(values.read(expertId(2, 0, 'up'))).toEqual(before.read(expertId(2, 0, 'up')));
    expect(report.dropped).toEqual([
      ...partsOfExpert.map((part) => expertId(0, 0, part)),
      ...partsOfExpert.map((part) => expertId(2, 3, part)),
    ]);
  });

  it('makes routers of plug-ins anew, and finds where their experts lie', () => {
    const choice = {
      router: (place: Parameters<typeof cosineFactory.create>[0]) =>
        cosineFactory.create(place, { temperature: 0.3 }),
    };
    const config = tinyConfig();
    const model = createModel({
      config,
      parameters: initialiseParameters(config, createRng(7), choice),
      ...choice,
    });
    const values = takeValues(model);
    const edit = editModelExperts(values, { remove: [1], plugins: [cosineFactory] });
    expect(edit.values.config.moebius?.routers?.[0]).toMatchObject({
      name: 'angle',
      options: { temperature: 0.3 },
    });
    const slot = { shape: [4, 8], data: Float32Array.from({ length: 32 }, (_, at) => at) };
    const state = { rule: 'adamw', step: 3, slots: { first: slot } };
    const edited = edit.editState({
      [routerId(0)]: state,
      [expertId(2, 1, 'up')]: state,
      [expertId(2, 2, 'up')]: state,
    });
    expect(Object.keys(edited)).toEqual([routerId(0), expertId(2, 1, 'up')]);
    expect(edited[expertId(2, 1, 'up')]).toBe(state);
    expect(edited[routerId(0)]?.slots['first']?.data).toEqual(
      Float32Array.of(...slot.data.subarray(0, 8), ...slot.data.subarray(16)),
    );
    expect(logitsOfValues(edit.values)).toHaveLength(12 * 19);
    expect(() => editModelExperts(values, { remove: [1] })).toThrow(
      'moebius.routers[0].name: must name a router that is given (none) or built in, got "angle"',
    );
  });

  it.each(['layer', 'expert'] as const)(
    'takes the frozen base of LoRA experts along, one of the %s',
    (scope) => {
      const choice = { experts: loraExpert({ rank: 2, alpha: 4, scope }) };
      const config = tinyConfig();
      const values = takeValues(
        createModel({ config, parameters: initialiseParameters(config, createRng(7), choice), ...choice }),
      );
      const edit = editModelExperts(values, { remove: [1], add: [{ copyOf: 3 }], noise: 0.1 });
      const parts = edit.report.tensors.filter(({ id }) => id.startsWith('model.layers.0.mlp.experts.1.'));
      expect(parts.length).toBeGreaterThan(scope === 'layer' ? 3 : 6);
      for (const { id, fate, from } of parts) {
        expect([fate, from]).toEqual(['renamed', [id.replace('experts.1.', 'experts.2.')]]);
        expect(edit.values.read(id)).toEqual(values.read(from[0]!));
      }
      const base =
        scope === 'layer'
          ? 'model.layers.0.mlp.gate_proj.weight'
          : 'model.layers.0.mlp.experts.3.gate_proj.weight';
      expect(edit.values.read(base)).toEqual(values.read(base));
      expect(logitsOfValues(edit.values)).toHaveLength(12 * 19);
    },
  );

  it('edits the selection bias with its experts', () => {
    const config = tinyConfig();
    const router = topKRouter({ ...topKRouter(tinyGate).gate!, selectionBias: true });
    const model = createModel({
      config,
      parameters: initialiseParameters(config, createRng(7)),
      router,
      buffers: { 'model.layers.0.mlp.gate.selectionBias': Float32Array.of(1, 2, 3, 4) },
    });
    const { values } = editModelExperts(valuesOfModel(model), { remove: [0, 2], add: ['fresh'], topK: 1 });
    expect(values.read('model.layers.0.mlp.gate.selectionBias')).toEqual(Float32Array.of(2, 4, 0));
    const edited = modelOfValues(values);
    expect([...edited.routerState.buffers(0)['selectionBias']!]).toEqual([2, 4, 0]);
    expect(logitsOf(edited)).toHaveLength(12 * 19);
    edited.dispose();
    model.dispose();
  });

  it('says what does not fit', () => {
    const dense = takeValues(tinyModel({ num_experts: 0, mlp_only_layers: [] }));
    const cases: readonly (readonly [() => unknown, string])[] = [
      [
        () => editModelExperts(dense, { remove: [0] }),
        'model: must have experts to add to or remove from, got a dense model (upcycle it first)',
      ],
      [() => editModelExperts(before, { remove: [4] }), 'remove: must name experts from 0 to 3, got 4'],
      [
        () => editModelExperts(before, { remove: { 0: [0] } }),
        'remove: must leave the same number of experts in every sparse layer, got 3 in layer 0, 4 in layer 2',
      ],
      [
        () => editModelExperts(before, { remove: { 1: [0] } }),
        'remove: must name sparse layers (0, 2), got 1',
      ],
      [
        () => editModelExperts(before, { remove: [0, 1, 2] }),
        'num_experts_per_tok: must be at most num_experts 1, got 2 (raise num_experts or lower num_experts_per_tok)',
      ],
    ];
    for (const [call, message] of cases) expect(call).toThrow(message);
  });
});

const tinyGate = {
  experts: 4,
  topK: 2,
  score: 'softmax',
  scoreAfterTopK: false,
  selectionBias: false,
  groups: null,
  renormalise: false,
  renormaliseEpsilon: 0,
  scale: 1,
  logitBias: false,
} as const;
