import { createRng } from '@moebius/core';
import { readHostSync } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { describeParameters, initialiseParameters } from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig } from './tiny-model.ts';

await prepareEngine();

describe('initialiseParameters', () => {
  it('draws matrices from a normal of initializer_range and sets norms to one', () => {
    const config = tinyConfig({ hidden_size: 64, vocab_size: 300, initializer_range: 0.05 });
    const store = initialiseParameters(config, createRng(3));
    for (const { id, role, shape } of describeParameters(config)) {
      const values = readHostSync(store.read(id)) as Float32Array;
      expect(store.shape(id)).toEqual(shape);
      if (role === 'norm') {
        expect(new Set(values)).toEqual(new Set([1]));
        continue;
      }
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const deviation = Math.sqrt(
        values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length,
      );
      const spread = 6 / Math.sqrt(values.length);
      expect(Math.abs(mean) / 0.05, id).toBeLessThan(spread);
      expect(Math.abs(deviation / 0.05 - 1), id).toBeLessThan(spread);
    }
    store.dispose();
  });

  it('gives a parameter the same values whatever others there are', () => {
    const id = 'model.layers.0.mlp.experts.3.up_proj.weight';
    const valuesOf = (fields: object): number[] => {
      const store = initialiseParameters(tinyConfig(fields), createRng('seed'));
      const values = [...readHostSync(store.read(id))];
      store.dispose();
      return values;
    };
    expect(valuesOf({ num_hidden_layers: 1, mlp_only_layers: [], num_experts: 9 })).toEqual(valuesOf({}));
  });

  it('puts each expert into a unit, so that it can be moved and saved alone', () => {
    const store = initialiseParameters(tinyConfig(), createRng(1));
    expect(store.idsOf('layers.2.experts.1')).toEqual(
      ['gate', 'up', 'down'].map((part) => `model.layers.2.mlp.experts.1.${part}_proj.weight`),
    );
    expect(store.units()).toHaveLength(1 + 3 + 2 * 4 + 1);
    store.dispose();
  });
});
