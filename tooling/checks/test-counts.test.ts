/** @file The numbers of the last line of `.ci/run`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, it } from 'vitest';

import { countTests } from './test-counts.mjs';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'moebius-counts-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, content: object): void {
  writeFileSync(join(folder, name), JSON.stringify(content));
}

const clean = { status: 'passed', assertionResults: [{ status: 'passed' }] };

it('adds the cases of vitest and of the suites inside it', () => {
  write('vitest.json', { numPassedTests: 10, numFailedTests: 1, testResults: [clean] });
  write('suite-tfjs-native.json', { passed: 3890, failed: 2 });
  expect(countTests(folder, 1)).toEqual({ passed: 3900, failed: 3 });
});
it('counts a file that could not be loaded as one failure', () => {
  write('vitest.json', {
    numPassedTests: 1,
    numFailedTests: 0,
    testResults: [clean, { status: 'failed', assertionResults: [] }],
  });
  expect(countTests(folder, 1)).toEqual({ passed: 1, failed: 1 });
});
it('counts a failed run without a failed case, and a run without a report', () => {
  expect(countTests(folder, 1)).toEqual({ passed: 0, failed: 1 });
  expect(countTests(folder, 0)).toEqual({ passed: 0, failed: 1 });
  write('vitest.json', { numPassedTests: 4, numFailedTests: 0, testResults: [clean] });
  expect(countTests(folder, 1)).toEqual({ passed: 4, failed: 1 });
  expect(countTests(folder, 0)).toEqual({ passed: 4, failed: 0 });
});
