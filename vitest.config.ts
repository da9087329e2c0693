import { defineConfig } from 'vitest/config';

/** Tests read sources through the `@moebius/source` condition: no build is needed. One engine per process: forks. */
export default defineConfig({
  resolve: { conditions: ['@moebius/source'] },
  ssr: { resolve: { conditions: ['@moebius/source', 'node', 'import', 'default'] } },
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    projects: ['packages/*', 'apps/*'],
  },
});
