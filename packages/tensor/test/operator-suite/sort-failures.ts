/** @file Sorts a run's failures under the reasons of an existing list; for upgrades. */
import { type KnownFailure, type SuiteReport } from './known-failures.ts';

/**
 * Puts each failure under the first reason whose message rule it matches, names a test stands in first.
 *
 * @returns the new list; what no rule covers stands under its own message with the reason "TO BE EXPLAINED"
 */
export function sortByRules(report: SuiteReport, rules: readonly KnownFailure[]): KnownFailure[] {
  const tests = new Map<KnownFailure, Set<string>>(rules.map((rule) => [rule, new Set<string>()]));
  const uncovered = new Map<string, Set<string>>();
  for (const { name, message } of report.failed) {
    const fitting = rules.filter((rule) => new RegExp(rule.message).test(message));
    const rule = fitting.find((candidate) => candidate.tests.includes(name)) ?? fitting[0];
    if (rule !== undefined) tests.get(rule)?.add(name);
    else uncovered.set(message, (uncovered.get(message) ?? new Set()).add(name));
  }
  const covered = rules.map((rule) => ({ ...rule, tests: [...(tests.get(rule) ?? [])].sort() }));
  const open = [...uncovered].map(([message, names]) => ({
    reason: 'TO BE EXPLAINED',
    message: message.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`),
    tests: [...names].sort(),
  }));
  return [...covered.filter((rule) => rule.tests.length > 0 || rule.sometimes === true), ...open];
}
