/** @file The committed lists of known failures, and their comparison with what a run gave. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Tests that fail for one reason. */
export interface KnownFailure {
  /** Why, for people. */
  readonly reason: string;
  /** Regular expression that the failure's message must match: another fault in a listed test is not hidden. */
  readonly message: string;
  /** True for a test of random numbers, which may pass by chance. */
  readonly sometimes?: boolean;
  /** Full names. */
  readonly tests: readonly string[];
}

/** What a run of the suite gave. */
export interface SuiteReport {
  readonly passed: readonly string[];
  readonly failed: readonly { readonly name: string; readonly message: string }[];
}

/** A run beside the list. */
export interface Comparison {
  /** Failed, and not listed with this message. */
  readonly unexpected: readonly string[];
  /** Listed, and passed. */
  readonly mended: readonly string[];
  /** Listed, and not in the suite. */
  readonly unknown: readonly string[];
}

/** Path of an engine's list. */
export function knownFailuresPath(engine: 'native' | 'wasm'): string {
  return join(dirname(fileURLToPath(import.meta.url)), `known-failures.${engine}.json`);
}

/** Reads an engine's list. */
export function readKnownFailures(engine: 'native' | 'wasm'): readonly KnownFailure[] {
  return (JSON.parse(readFileSync(knownFailuresPath(engine), 'utf8')) as { failures: KnownFailure[] })
    .failures;
}

/** Compares a run with the list. */
export function compareWithKnown(report: SuiteReport, known: readonly KnownFailure[]): Comparison {
  const listed = new Map(known.flatMap((group) => group.tests.map((test) => [test, group] as const)));
  const failed = new Set(report.failed.map(({ name }) => name));
  const passed = new Set(report.passed);
  const unexpected = report.failed.filter(({ name, message }) => {
    const group = listed.get(name);
    return group === undefined || !new RegExp(group.message).test(message);
  });
  const rest = [...listed]
    .filter(([test, group]) => !failed.has(test) && group.sometimes !== true)
    .map(([test]) => test);
  return {
    unexpected: unexpected.map(({ name, message }) => `${name}: ${message}`),
    mended: rest.filter((test) => passed.has(test)),
    unknown: rest.filter((test) => !passed.has(test)),
  };
}
