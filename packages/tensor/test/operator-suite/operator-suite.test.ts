/**
 * TensorFlow.js's own operator suite, as it ships inside `@tensorflow/tfjs-core`, on our engines. A failure that is not
 * listed fails; a listed test that passes fails too, so that the list cannot rot. After an upgrade, set
 * MOEBIUS_UPDATE_KNOWN_FAILURES=1 once: the lists are re-sorted by their message rules, and what no rule covers is
 * put under a reason to be written by hand.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { bundleForNode } from '../engine/bundle.ts';
import {
  type SuiteReport,
  compareWithKnown,
  knownFailuresPath,
  readKnownFailures,
} from './known-failures.ts';
import { sortByRules } from './sort-failures.ts';

const timeoutMs = 240_000;
/** How many tests the suite has at tfjs-core 4.22.0: fewer would mean that part of it did not load. */
const suiteTests = 4_225;

let folder: string;
let driver: string;
let suite: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'moebius-suite-'));
  suite = join(folder, 'suite.cjs');
  driver = await bundleForNode('suite-driver', 'operator-suite');
  await build({
    entryPoints: [join(dirname(fileURLToPath(import.meta.url)), 'suite-entry.ts')],
    outfile: suite,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    // The package claims to have no side effects; its test files are nothing else.
    ignoreAnnotations: true,
    logLevel: 'error',
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function runSuite(engine: 'native' | 'wasm'): Promise<SuiteReport> {
  const path = join(folder, `${engine}.json`);
  const environment = { ...process.env, NODE_OPTIONS: '' };
  await promisify(execFile)(process.execPath, [driver, engine, suite, path], {
    env: environment,
    timeout: timeoutMs,
    maxBuffer: 64 * 2 ** 20,
  });
  return JSON.parse(readFileSync(path, 'utf8')) as SuiteReport;
}

describe("TensorFlow.js's operator suite", () => {
  it.each(['native', 'wasm'] as const)(
    'passes on %s but for the known failures',
    async (engine) => {
      const report = await runSuite(engine);
      if (process.env['MOEBIUS_UPDATE_KNOWN_FAILURES'] === '1') {
        const failures = sortByRules(report, readKnownFailures(engine));
        writeFileSync(
          knownFailuresPath(engine),
          `${JSON.stringify({ suite: '@tensorflow/tfjs-core 4.22.0', failures }, undefined, 2)}\n`,
        );
      }
      expect(report.passed.length + report.failed.length).toBe(suiteTests);
      const comparison = compareWithKnown(report, readKnownFailures(engine));
      const counts = { passed: report.passed.length, failed: comparison.unexpected.length };
      // For the count of a whole run: this suite is one case to vitest. Known failures are not counted.
      const reports = process.env['MOEBIUS_TEST_REPORT'];
      if (reports !== undefined)
        writeFileSync(join(reports, `suite-operators-${engine}.json`), JSON.stringify(counts));
      expect(comparison).toEqual({
        unexpected: [],
        mended: [],
        unknown: [],
      });
    },
    timeoutMs,
  );
});

describe('the comparison with the list', () => {
  const known = [{ reason: 'r', message: 'no kernel', tests: ['a', 'b'] }];

  it('finds a failure that is not listed, one that is listed for another fault, and a listed test that passes', () => {
    const failed = [
      { name: 'a', message: 'wrong result' },
      { name: 'c', message: 'no kernel' },
    ];
    expect(compareWithKnown({ passed: ['b'], failed }, known)).toEqual({
      unexpected: ['a: wrong result', 'c: no kernel'],
      mended: ['b'],
      unknown: [],
    });
  });

  it('finds a listed test that the suite no longer has', () => {
    expect(compareWithKnown({ passed: ['b'], failed: [] }, known).unknown).toEqual(['a']);
  });
});
