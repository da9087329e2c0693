/**
 * @file Counts test cases from the reports that a test run leaves in one folder: vitest's JSON report, and one
 * `suite-<name>.json` of `{ "passed": n, "failed": n }` for each suite that vitest runs as a single case.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { readJson } from './workspaces.mjs';

/**
 * @param {string} folder
 * @param {number} status the exit status of the run
 * @returns {{ passed: number, failed: number }}
 */
export function countTests(folder, status) {
  const report = join(folder, 'vitest.json');
  if (!existsSync(report)) return { passed: 0, failed: 1 };
  const vitest = readJson(report);
  let passed = vitest.numPassedTests;
  // A file that cannot be loaded has no cases of its own: it is one failure.
  const brokenFiles = vitest.testResults.filter(
    (/** @type {{ status: string, assertionResults: { status: string }[] }} */ file) =>
      file.status === 'failed' && !file.assertionResults.some((result) => result.status === 'failed'),
  ).length;
  let failed = vitest.numFailedTests + brokenFiles;
  for (const name of readdirSync(folder).filter((entry) => /^suite-.*\.json$/.test(entry))) {
    const suite = readJson(join(folder, name));
    passed += suite.passed;
    failed += suite.failed;
  }
  // A run that failed for a reason outside every case (an unhandled error, a failed set-up) is a failure too.
  if (status !== 0 && failed === 0) failed = 1;
  return { passed, failed };
}
