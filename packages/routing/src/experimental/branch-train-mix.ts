/**
 * @file Branch-Train-MiX (Sukhbaatar et al. 2024): models that were trained apart from one seed become one. Their feed-forward
 * layers are the experts, every other weight is averaged, and a fresh router is trained afterwards.
 *
 * Letters: `E` experts = branches, `D` model width.
 */
import { MoebiusError, type Rng } from '@moebius/core';

import type { ExpertKind } from '../define-expert.ts';
import type { GateConfig } from '../gate-config.ts';
import { type HostExpert, type HostTensor, scaleExpert, sizeOfExpert } from '../surgery/host-expert.ts';
import { weightedSum } from '../surgery/host-rows.kernel.ts';
import { upcycleFactor, virtualGroupRouter } from '../surgery/upcycle.ts';

/** One model that was trained apart: of one layer, or of a whole model with the layers' names as keys of `rest`. */
export interface Branch {
  /** The feed-forward that becomes an expert. */
  readonly feedForward: HostExpert;
  /** Every other tensor by name: attention, norms, embedding. */
  readonly rest: { readonly [name: string]: HostTensor };
}

/** What {@link mixBranches} makes. */
export interface MixedBranches {
  /** `E` experts, in the order of the branches. */
  readonly experts: readonly HostExpert[];
  /** float32 `[E, D]`, fresh. */
  readonly router: HostTensor;
  /** Averages of what is not an expert. */
  readonly rest: { readonly [name: string]: HostTensor };
  /** Whether branches that are the same give the function of each of them, whatever the router says. */
  readonly isExact: boolean;
}

/**
 * Mixes branches. For branches that are the same, and a gate that renormalises, the result computes what each of them does:
 * the average of equal numbers is that number, bit for bit, and the weights of equal experts add up to 1.
 *
 * @param kind - of the feed-forward layers
 * @param branches - at least two, of the same tensors and shapes; borrowed
 * @param options - `gate` of the new layer, `experts` of which is the number of branches; `standardDeviation` of the router's
 * rows; `rng`, advanced
 * @returns fresh tensors
 * @throws `configuration` when there are fewer than two branches or the gate has another number of experts; `shape` when
 * branches differ in their tensors
 * @example
 * ```ts
 * import { createRng } from '@moebius/core';
 * import { gatedExpert, parseGateConfig } from '@moebius/routing';
 *
 * declare const branches: Branch[];
 * const gate = parseGateConfig({ experts: branches.length, topK: 2, renormalise: true });
 * const mixed = mixBranches(gatedExpert(), branches, { gate, standardDeviation: 0.02, rng: createRng(0) });
 * ```
 */
export function mixBranches(
  kind: ExpertKind,
  branches: readonly Branch[],
  options: { readonly gate: GateConfig; readonly standardDeviation: number; readonly rng: Rng },
): MixedBranches {
  const { gate, standardDeviation, rng } = options;
  const [first] = branches;
  if (first === undefined || branches.length < 2)
    throw wrong('configuration', 'branches', 'must be at least two', String(branches.length));
  if (gate.experts !== branches.length) {
    throw wrong(
      'configuration',
      'gate.experts',
      `must be the number of branches ${branches.length}`,
      String(gate.experts),
    );
  }
  const { modelWidth } = sizeOfExpert(kind, first.feedForward, 'branches[0]');
  for (const [at, branch] of branches.entries()) {
    assertAlike(first.feedForward, branch.feedForward, `branches[${at}] feed-forward`);
    assertAlike(first.rest, branch.rest, `branches[${at}]`);
  }
  const { factor, isExact } = upcycleFactor(gate);
  const equal = branches.map(() => 1 / branches.length);
  const rest = Object.entries(first.rest).map(([name, { shape }]) => {
    const values = branches.flatMap((branch) => branch.rest[name]?.data ?? []);
    return [name, { shape, data: weightedSum(values, equal) }] as const;
  });
  return {
    experts: branches.map(({ feedForward }) => scaleExpert(kind, feedForward, { factor })),
    router: virtualGroupRouter({ copies: branches.length, modelWidth, standardDeviation, rng }),
    rest: Object.fromEntries(rest),
    isExact,
  };
}

type Tensors = { readonly [name: string]: HostTensor };

function assertAlike(wanted: Tensors, got: Tensors, subject: string): void {
  const describe = (tensors: Tensors): string[] =>
    Object.entries(tensors)
      .map(([name, { shape }]) => `${name} [${shape.join(', ')}]`)
      .toSorted();
  const [before, now] = [describe(wanted), describe(got)];
  const different =
    before.find((entry) => !now.includes(entry)) ?? now.find((entry) => !before.includes(entry));
  if (different === undefined) return;
  throw wrong('shape', subject, 'must have the tensors of the first branch', `a difference at ${different}`);
}

function wrong(
  code: 'configuration' | 'shape',
  subject: string,
  expectation: string,
  got: string,
): MoebiusError {
  return new MoebiusError({
    code,
    message: `${subject}: ${expectation}, got ${got}`,
    details: { subject, got },
  });
}
