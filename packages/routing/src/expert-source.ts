/**
 * @file The expert source of experts that are simply there.
 */
import { MoebiusError } from '@moebius/core';
import type { Task } from '@moebius/core';

import type { ExpertKind, ExpertParameters } from './define-expert.ts';
import type { ExpertSource, Lease } from './expert-executor.ts';

/** Where {@link createResidentSource} finds its experts. */
export interface ResidentSourceOptions {
  /** The kind of every expert, or one kind for each; with a list its length is the number of experts. */
  readonly kinds: readonly ExpertKind[];
  /** Borrowed parameters of one expert, readable until the lease ends (a parameter store's `read`). */
  readonly read: (layer: number, expert: number) => ExpertParameters;
}

/**
 * A source of experts in memory: acquiring never waits and costs nothing.
 *
 * @param options - one kind for each expert, and where the parameters are
 * @throws `configuration` without experts
 * @example
 * ```ts
 * import { tensor2d } from '@moebius/tensor';
 *
 * const part = () => tensor2d([[1, 2]]);
 * const weights = [0, 1].map(() => ({ gate: part(), up: part(), down: part() }));
 * const experts = createResidentSource({
 *   kinds: weights.map(() => gatedExpert()),
 *   read: (_layer, expert) => weights[expert] ?? {},
 * });
 * ```
 */
export function createResidentSource(options: ResidentSourceOptions): ExpertSource {
  const { kinds, read } = options;
  if (kinds.length === 0) {
    throw new MoebiusError({
      code: 'configuration',
      message: 'createResidentSource.kinds: must list a kind for each expert, got 0 (add experts)',
      details: { experts: 0 },
    });
  }
  const kind = (expert: number): ExpertKind => {
    const found = kinds[expert];
    if (found !== undefined) return found;
    throw new MoebiusError({
      code: 'registry',
      message: `expert: must be in 0…${kinds.length - 1}, got ${expert} (check the plan)`,
      details: { expert, experts: kinds.length },
    });
  };
  return {
    experts: kinds.length,
    resident: true,
    kind,
    // eslint-disable-next-line require-yield -- a task that never waits
    *acquire(layer: number): Task<Lease> {
      return { parameters: (expert) => read(layer, expert), release: () => undefined };
    },
  };
}
