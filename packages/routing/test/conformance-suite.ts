import { createEngine } from '@moebius/tensor';
import type { EngineName } from '@moebius/tensor';
import { beforeAll, describe, it } from 'vitest';

import {
  createLocalExecutor,
  gatedExpert,
  identityExpert,
  loadBalanceLoss,
  nullExpert,
  parseGateConfig,
  plainExpert,
  topKRouter,
  zLoss,
} from '../src/index.ts';
import {
  describeBalanceLoss,
  describeExecutor,
  describeExpert,
  describeRouter,
} from '../src/testing/index.ts';
import { families } from './gate-families.ts';

const api = { describe, it };

/** Every built-in definition through the kits that third parties run, on one engine. */
export function registerConformance(engine: EngineName | 'auto'): void {
  beforeAll(async () => {
    await createEngine({ engine });
  });
  for (const [title, input] of Object.entries(families)) {
    describeRouter(topKRouter(parseGateConfig(input)), { ...api, title });
  }
  for (const activation of ['silu', 'gelu', 'relu'] as const) {
    describeExpert(gatedExpert({ activation }), api);
    describeExpert(plainExpert({ activation }), api);
    describeExpert(plainExpert({ activation, bias: true }), api);
  }
  describeExpert(identityExpert(), api);
  describeExpert(nullExpert(), api);
  describeExecutor(createLocalExecutor(), api);
  describe('general path', () => describeExecutor(createLocalExecutor({ path: 'general' }), api));
  for (const pooling of ['pooled', 'per-layer'] as const) {
    describeBalanceLoss(loadBalanceLoss({ pooling }), { ...api, title: pooling });
    describeBalanceLoss(loadBalanceLoss({ pooling, divideByTopK: true }), {
      ...api,
      title: `${pooling} divided by k`,
    });
  }
  describeBalanceLoss(loadBalanceLoss({ pooling: 'per-sequence', sequenceTokens: 4 }), {
    ...api,
    title: 'per-sequence',
  });
  describeBalanceLoss(zLoss(), api);
}
