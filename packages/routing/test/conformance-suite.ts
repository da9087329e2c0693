import { createEngine } from '@moebius/tensor';
import type { EngineName } from '@moebius/tensor';
import { beforeAll, describe, it } from 'vitest';

import {
  clampedGatedExpert,
  constantExpert,
  ia3Expert,
  loraExpert,
  lowRankExpert,
} from '../src/experts/index.ts';
import {
  createLocalExecutor,
  gatedExpert,
  identityExpert,
  nullExpert,
  parseGateConfig,
  plainExpert,
  topKRouter,
} from '../src/index.ts';
import { createLoss } from '../src/losses/index.ts';
import {
  describeBalanceLoss,
  describeExecutor,
  describeExpert,
  describeRouter,
} from '../src/testing/index.ts';
import { families } from './gate-families.ts';
import { lossCases } from './losses/loss-cases.ts';

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
  for (const kind of [
    clampedGatedExpert(),
    constantExpert({ mixed: true }),
    loraExpert({ rank: 2, alpha: 3 }),
    ia3Expert(),
    lowRankExpert({ rank: 2 }),
  ])
    describeExpert(kind, api);
  describeExpert(identityExpert(), api);
  describeExpert(nullExpert(), api);
  describeExecutor(createLocalExecutor(), api);
  describe('general path', () => describeExecutor(createLocalExecutor({ path: 'general' }), api));
  for (const { name, options, buffers } of lossCases.filter(({ everywhere }) => everywhere)) {
    const title = `${name} ${JSON.stringify(options ?? {})}`;
    const held = buffers === undefined ? {} : { buffers };
    describeBalanceLoss(createLoss(name, options), { ...api, ...held, title });
  }
}
