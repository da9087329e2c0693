import { createEngine } from '@moebius/tensor';
import { beforeAll, describe, it } from 'vitest';

import { describeRouter } from '../../src/testing/index.ts';
import { kitCases } from './routers.ts';

beforeAll(async () => {
  await createEngine();
});

for (const [title, { router, ...options }] of Object.entries(kitCases))
  describeRouter(router, { describe, it, title, ...options });
