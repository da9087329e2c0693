import { fileURLToPath } from 'node:url';

import { defineProject } from 'vitest/config';

/** What every package's tests share: sources instead of `dist`, one process per file (one engine per process). */
export const testProject = defineProject({
  resolve: { conditions: ['@moebius/source'] },
  ssr: {
    resolve: {
      conditions: ['@moebius/source', 'node', 'import', 'default'],
      externalConditions: ['@moebius/source', 'node', 'import', 'default'],
    },
  },
  test: {
    pool: 'forks',
    setupFiles: [fileURLToPath(new URL('property-seed.ts', import.meta.url))],
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
