import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { describeBalanceLoss } from '@moebius/routing/testing';
import { createEngine } from '@moebius/tensor';

import { gateEntropy } from '../src/index.js';

before(() => createEngine());

describeBalanceLoss(gateEntropy, { describe, it });

it('is -log E where every expert is equally likely', () => {
  const layer = { counts: Float64Array.of(4), sums: Float64Array.of(-4 * Math.log(8)) };
  assert.ok(Math.abs(gateEntropy.value([layer, layer]) + Math.log(8)) < 1e-12);
  assert.equal(gateEntropy.value([]), 0);
});
