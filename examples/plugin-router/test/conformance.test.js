import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { describeBalanceLoss, describeRouter } from '@moebius/routing/testing';
import { createEngine } from '@moebius/tensor';

import { cosine, gateEntropy } from '../src/index.js';

before(() => createEngine());

describeBalanceLoss(gateEntropy, { describe, it });
const place = { layer: 0, place: 0, sparseLayers: 1, experts: 6, topK: 2, modelWidth: 5 };
// A temperature of 1: at a sharp one, central differences do not settle.
describeRouter(cosine.create(place, { temperature: 1 }), { describe, it });

it('refuses a temperature that is none, naming itself', () => {
  assert.throws(() => cosine.create(place, { temperature: 0 }), {
    message:
      'layers[0] router "plain-cosine" create: must not throw, got temperature: must be above 0, got 0 (mend the plug-in, or its options)',
  });
});

it('is -log E where every expert is equally likely', () => {
  const layer = { counts: Float64Array.of(4), sums: Float64Array.of(-4 * Math.log(8)) };
  assert.ok(Math.abs(gateEntropy.value([layer, layer]) + Math.log(8)) < 1e-12);
  assert.equal(gateEntropy.value([]), 0);
});
