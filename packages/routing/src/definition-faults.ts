/**
 * @file Checks shared by the `define…` functions: what a plug-in from outside must at least have.
 */
import { MoebiusError } from '@moebius/core';

/** One fault for every named member that is not a function. */
export function missingFunctions(definition: object, names: readonly string[]): string[] {
  const members = definition as Record<string, unknown>;
  return names
    .filter((name) => typeof members[name] !== 'function')
    .map((name) => `${name}: must be a function, got ${typeof members[name]}`);
}

/**
 * @throws `plugin` with every fault, when there is one
 */
export function assertNoFaults(subject: string, faults: readonly string[]): void {
  if (faults.length === 0) return;
  throw new MoebiusError({
    code: 'plugin',
    message: `${subject}: ${faults.join('; ')} (see the port it implements)`,
    details: { subject, faults: [...faults] },
  });
}
