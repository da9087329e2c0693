/** Models whose routes are slots and merged experts, and whose batches name domains: gradients, and that domains arrive. */
import { createRng, runSync } from '@moebius/core';
import { loryRouter, multiGateRouter, smearRouter, softMoeRouter } from '@moebius/routing/gates';
import type { RouterFactory } from '@moebius/routing';
import { countTensors, disposeTree, readHostSync, tensor } from '@moebius/tensor';
import type { Tensor } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { createModel, initialiseParameters } from '../src/index.ts';
import type { DecoderModel, PartsChoice } from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig, tinyIds } from './tiny-model.ts';

await prepareEngine();

const ids = tinyIds(10);
const batch = { ids, targets: Int32Array.from(ids, (_, t) => ids[(t + 1) % 10] ?? 0), batch: 2 };

function modelOf(choice: PartsChoice): DecoderModel {
  const config = tinyConfig({});
  return createModel({ config, parameters: initialiseParameters(config, createRng(7), choice), ...choice });
}

function lossOf(model: DecoderModel, input: Parameters<DecoderModel['loss']>[0]): number {
  const output = runSync(model.loss(input, { training: false }));
  disposeTree(output.saved);
  return output.total;
}

function assign(model: DecoderModel, id: string, values: Float32Array): void {
  const value = tensor(values.slice(), [...model.parameters.shape(id)]);
  model.parameters.assign(id, value);
  value.dispose();
}

const made = (factory: RouterFactory, options: object): PartsChoice => ({
  router: (place) => factory.create(place, { ...options }),
});

describe('a model with routes that are no pairs', () => {
  const choices: Record<string, PartsChoice> = {
    'soft-moe': made(softMoeRouter(), { slots: 2 }),
    smear: made(smearRouter(), {}),
    lory: made(loryRouter(), { segment: 2 }),
  };
  for (const [name, choice] of Object.entries(choices)) {
    it(`has the gradients of its loss, through gate and experts: ${name}`, () => {
      const before = countTensors();
      const model = modelOf(choice);
      const output = runSync(model.loss(batch));
      if (output.saved === null) throw new Error('nothing saved');
      const gradients = runSync(model.backward(output.saved));
      const watched = Object.keys(gradients).filter((id) =>
        /layers\.0\.mlp\.(gate\.|experts\.[02]\.)/.test(id),
      );
      expect(watched.length).toBeGreaterThan(3);
      for (const id of watched) {
        const values = Float32Array.from(readHostSync(model.parameters.read(id)));
        const gradient = [...readHostSync(gradients[id] as Tensor)];
        const direction = Float32Array.from(values, (_, i) => Math.cos(3 * i + 1));
        const slope = gradient.reduce((sum, value, i) => sum + value * (direction[i] ?? 0), 0);
        const at = (step: number): number => {
          assign(
            model,
            id,
            values.map((value, i) => value + step * (direction[i] ?? 0)),
          );
          return lossOf(model, batch);
        };
        const [high, low] = [at(1e-2), at(-1e-2)];
        assign(model, id, values);
        expect((high - low) / 2e-2, id).toBeCloseTo(slope, 2);
      }
      disposeTree(gradients);
      model.dispose();
      expect(countTensors()).toBe(before);
    });
  }
});

describe('a batch that names domains', () => {
  const choice = made(multiGateRouter(), { tasks: 2, topK: 2 });

  it('is routed by them, and must name one for every token', () => {
    const before = countTensors();
    const model = modelOf(choice);
    const [first, second] = [0, 1].map((task) =>
      lossOf(model, { ...batch, domain: new Int32Array(10).fill(task) }),
    );
    expect(first).not.toBe(second);
    expect(() => lossOf(model, { ...batch, domain: new Int32Array(9) })).toThrow(
      'domain length: must be 10, got 9',
    );
    expect(() => lossOf(model, batch)).toThrow(
      'layers[0] router "multi-gate": domain must be given, got none (pass the domain of each token with the batch, or set option "otherwise")',
    );
    model.dispose();
    expect(countTensors()).toBe(before);
  });
});
