import { createEngine } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { builtInLosses, createLoss } from '../../src/losses/index.ts';
import { describeBalanceLoss } from '../../src/testing/index.ts';
import { lossCases } from './loss-cases.ts';

beforeAll(async () => {
  await createEngine();
});

it('every built-in loss has a case', () => {
  expect(new Set(lossCases.map(({ name }) => name))).toEqual(new Set(Object.keys(builtInLosses)));
});

// Those of every engine run in test/conformance-suite.ts.
for (const { name, options, buffers } of lossCases.filter(({ everywhere }) => everywhere === undefined)) {
  describeBalanceLoss(createLoss(name, options), {
    describe,
    it,
    title: `${name} ${JSON.stringify(options ?? {})}`,
    ...(buffers === undefined ? {} : { buffers }),
  });
}
