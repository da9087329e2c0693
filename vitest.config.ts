import { defineConfig } from 'vitest/config';

/** A folder for machine-readable results; `.ci/run` sets it to count test cases. */
const report = process.env['MOEBIUS_TEST_REPORT'];

/** Tests read sources through the `@moebius/source` condition: no build is needed. One engine per process: forks. */
export default defineConfig({
  resolve: { conditions: ['@moebius/source'] },
  ssr: { resolve: { conditions: ['@moebius/source', 'node', 'import', 'default'] } },
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    projects: ['packages/*', 'apps/*', 'tooling'],
    ...(report === undefined
      ? {}
      : { reporters: ['default', ['json', { outputFile: `${report}/vitest.json` }]] }),
  },
});
