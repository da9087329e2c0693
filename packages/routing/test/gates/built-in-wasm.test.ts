/** Every built-in router with its defaults through the kit on the portable engine. */
import { createEngine } from '@moebius/tensor';
import { beforeAll, describe, it } from 'vitest';

import { describeRouter } from '../../src/testing/index.ts';
import { builtInVariants } from './built-in-variants.ts';

beforeAll(async () => {
  await createEngine({ engine: 'wasm' });
});

for (const { router, title, kit } of builtInVariants()) {
  if (title.endsWith(' {}')) describeRouter(router, { describe, it, title, ...kit });
}
