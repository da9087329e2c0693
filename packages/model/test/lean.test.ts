/**
 * How many tensors a pass makes, as a bound: each costs microseconds, so at one token they are the time. The count of
 * a layer is the difference between models of 4 and of 2 layers.
 */
import { runSync } from '@moebius/core';
import { createEngine, createKvCache, disposeTree, scalar } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import type { DecoderModel } from '../src/index.ts';
import { tinyIds, tinyModel } from './tiny-model.ts';

const engine = await createEngine({});

/** Tensor ids count up by one per tensor made, clones included. */
function tensorsMade(run: () => void): number {
  const mark = (): number => {
    const probe = scalar(0);
    const { id } = probe;
    probe.dispose();
    return id;
  };
  const before = mark();
  run();
  return mark() - before - 1;
}

function perLayer(fields: object, measure: (model: DecoderModel) => number): number {
  const [two = 0, four = 0] = [2, 4].map((num_hidden_layers) => {
    const model = tinyModel({ num_experts: 8, ...fields, num_hidden_layers, mlp_only_layers: [] });
    measure(model);
    const made = measure(model);
    model.dispose();
    return made;
  });
  return (four - two) / 2;
}

function decodeOne(model: DecoderModel): number {
  const { num_hidden_layers: layers, num_key_value_heads: kvHeads, head_dim: headSize } = model.config;
  const cache = createKvCache({ layers, batch: 1, positions: 16, kvHeads, headSize });
  disposeTree(runSync(model.forward({ ids: tinyIds(8) }, { cache })));
  const made = tensorsMade(() => disposeTree(runSync(model.forward({ ids: Int32Array.of(3) }, { cache }))));
  cache.dispose();
  return made;
}

describe.skipIf(!engine.fused)('with the native kernels', () => {
  it('decodes a token with at most 12 tensors a layer, whatever the number of experts', () => {
    const few = perLayer({ num_experts: 4 }, decodeOne);
    const many = perLayer({ num_experts: 32 }, decodeOne);
    expect(few).toBeLessThanOrEqual(12);
    expect(few).toBeGreaterThan(1);
    expect(many).toBe(few);
  });

  it('trains with at most 120 tensors a layer and 4 more for each expert', () => {
    const bound = 120 + 4 * 8;
    const forwards = perLayer({}, (model) => {
      const ids = tinyIds(8);
      return tensorsMade(() => disposeTree(runSync(model.loss({ ids, targets: ids }))));
    });
    expect(forwards).toBeLessThanOrEqual(bound);
    const both = perLayer({}, (model) => {
      const ids = tinyIds(8);
      return tensorsMade(() => {
        const { saved } = runSync(model.loss({ ids, targets: ids }));
        if (saved !== null) disposeTree(runSync(model.backward(saved)));
      });
    });
    expect(both - forwards).toBeLessThanOrEqual(bound);
  });
});
