/**
 * @file Experts as kinds: what an expert computes, which parameters it has, and how its neurons lie in them.
 *
 * Parameters are per expert, never one stacked tensor: a unit that can be moved, saved, permuted and sharded. All FFN
 * matrices are stored `[F, D]`, so a neuron is a contiguous row and a prefix of neurons is a slice.
 *
 * Letters: `R` rows of one expert, `T` tokens, `D` model width, `F` hidden width, `N` routed pairs.
 */
import { MoebiusError, definePlugin } from '@moebius/core';
import type { Plugin } from '@moebius/core';
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

import type { InitialRequest } from './define-router.ts';
import { assertNoFaults, missingFunctions } from './definition-faults.ts';
import type { DispatchPlan } from './dispatch-plan.ts';

/** Tensors of one expert by part name. */
export interface ExpertParameters {
  readonly [part: string]: Tensor;
}

/** Gradients of one expert by part name. */
export interface ExpertGradients {
  readonly [part: string]: Tensor;
}

/** An axis of a part: `F` neurons, `D` model width, or a length of the kind's own (a rank). */
export type PartAxis = 'F' | 'D' | number;

/** Sizes of one expert. */
export interface ExpertSize {
  /** Model width `D`. */
  readonly modelWidth: number;
  /** Hidden width `F`; 0 for kinds without neurons. */
  readonly hiddenWidth: number;
}

/** What a kind's forward returns. Caller owns both. */
export interface ExpertForward {
  /** float32 `[R, D]`. */
  readonly value: Tensor2D;
  /** A tree of tensors and plain data for `backward`; free with `disposeTree`. */
  readonly saved: unknown;
}

/** What a kind's backward returns. Caller owns every tensor. */
export interface ExpertBackward {
  /** float32 `[R, D]`, gradient of the rows. */
  readonly dx: Tensor2D;
  /** Gradient of every part; none of a base. */
  readonly parameters: ExpertGradients;
}

/** What a fused layer's backward returns. Caller owns every tensor. */
export interface FusedBackward {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** float32 `[N]`. */
  readonly dweights: Tensor1D;
  /** `[E]`, gradient of every part of every expert; zeros without rows. */
  readonly experts: readonly ExpertGradients[];
}

/** All experts of a layer in one operation, for kinds that have one. Same meaning as the general path. */
export interface FusedLayer {
  /** `x` `[T, D]`, `weights` `[N]`, one entry of parts per expert → `y` `[T, D]`. */
  forward(
    x: Tensor2D,
    weights: Tensor1D,
    options: { readonly experts: readonly ExpertParameters[]; readonly plan: DispatchPlan },
  ): ExpertForward;
  /** `dy` `[T, D]` → gradients. */
  backward(saved: unknown, dy: Tensor2D): FusedBackward;
}

/**
 * What experts stand on: the parts of another kind, which are frozen. They are handed to the kind together with its own
 * parts, and its gradients are those of its own parts only.
 */
export interface ExpertBase {
  /** The kind whose parts are frozen; no name of a part may be both. */
  readonly kind: ExpertKind;
  /** `layer`: held once for all experts of a layer; `expert`: every expert has its own. */
  readonly scope: 'layer' | 'expert';
  /** Own and frozen parts → the parts `[…]` of an expert of the base's kind that computes the same. Borrows in, owned out. */
  merge(parameters: ExpertParameters): ExpertParameters;
}

/** A kind of expert, by value. Experts of one kind differ only in their parameters. */
export interface ExpertKind extends Plugin {
  /** Extension point. */
  readonly kind: 'expert';
  /** Unique name including options, as in `gated-silu`. Equal names mean equal mathematics. */
  readonly name: string;
  /** Axes of every parameter, as in `{ gate: ['F', 'D'] }`. */
  readonly parts: Readonly<Record<string, readonly PartAxis[]>>;
  /** Frozen parts that it adapts. Default none. */
  readonly base?: ExpertBase;
  /** The axis along which neurons lie, or null when the kind has no neurons. */
  readonly neuronAxis: 'F' | null;
  /** `x` float32 `[R, D]`, R ≥ 1, and the parts (those of the base among them) → `[R, D]`. Borrows in, owned out. */
  forward(x: Tensor2D, parameters: ExpertParameters): ExpertForward;
  /** `dy` float32 `[R, D]` → gradients. Borrows in, owned out. */
  backward(saved: unknown, dy: Tensor2D): ExpertBackward;
  /** Floating-point operations of one forward over `rows` rows. */
  flops(rows: number, size: ExpertSize): number;
  /** A whole layer of experts of this kind and one shape in one operation. */
  readonly fused?: FusedLayer;
  /** First values of a part. Default: matrices normal with the model's standard deviation, all else 0. */
  initialise?(part: string, request: InitialRequest): Float32Array;
  /** Its outputs are not checked again, which saves reading them. For kinds that pass `describeExpert`. Default false. */
  readonly trusted?: boolean;
}

/**
 * Checks and freezes a kind of expert.
 *
 * @param definition - the kind; `backward` must match `forward` (the conformance kit `describeExpert` checks it)
 * @returns the same kind, frozen
 * @throws `plugin` naming every fault
 */
export function defineExpert(definition: Omit<ExpertKind, 'kind'>): ExpertKind {
  const faults = missingFunctions(definition, ['forward', 'backward', 'flops']);
  if (definition.initialise !== undefined) faults.push(...missingFunctions(definition, ['initialise']));
  const axes = Object.entries(definition.parts ?? {});
  for (const [part, list] of axes) {
    if (list.length === 0 || !list.every(isAxis)) {
      faults.push(`parts.${part}: must list axes F, D or lengths of at least 1, got [${list.join(', ')}]`);
    }
    if (definition.base !== undefined && Object.hasOwn(definition.base.kind.parts, part)) {
      faults.push(`parts.${part}: must not be a part of the base "${definition.base.kind.name}" too`);
    }
  }
  const hasNeurons = axes.some(([, list]) => list.includes('F'));
  if (hasNeurons !== (definition.neuronAxis === 'F')) {
    faults.push(
      `neuronAxis: must be ${hasNeurons ? "'F'" : 'null'} for these parts, got ${String(definition.neuronAxis)}`,
    );
  }
  assertNoFaults(`expert kind "${String(definition.name)}"`, faults);
  return definePlugin({ ...definition, kind: 'expert' });
}

function isAxis(axis: PartAxis): boolean {
  return axis === 'F' || axis === 'D' || (Number.isInteger(axis) && axis >= 1);
}

/** Shape of a part, its own or of its base, for a size, as in `[F, D]` → `[128, 64]`. */
export function partShape(kind: ExpertKind, part: string, size: ExpertSize): number[] {
  const axes = kind.parts[part] ?? kind.base?.kind.parts[part];
  if (axes === undefined) {
    throw new MoebiusError({
      code: 'registry',
      message: `part of ${kind.name}: must be one of ${Object.keys(kind.parts).join(', ')}, got "${part}"`,
      details: { kind: kind.name, part, known: Object.keys(kind.parts) },
    });
  }
  const { hiddenWidth, modelWidth } = size;
  return axes.map((axis) => (axis === 'F' ? hiddenWidth : axis === 'D' ? modelWidth : axis));
}

/** Parameters that one expert of a kind has to itself: its parts, and a base of scope `expert`. */
export function countExpertParameters(kind: ExpertKind, size: ExpertSize): number {
  const own = Object.keys(kind.parts).reduce(
    (sum, part) => sum + partShape(kind, part, size).reduce((product, length) => product * length, 1),
    0,
  );
  return kind.base?.scope === 'expert' ? own + countExpertParameters(kind.base.kind, size) : own;
}
