/**
 * @file Experts that adapt frozen ones: what LoRA, IA³ and their like share.
 *
 * An adapter says how its own parts change the parts of a base (`merge`) and how gradients of the changed parts become
 * gradients of its own. The expert itself is then the base's kind on merged parts, fused form included, so that an adapter
 * that changes nothing gives the base's bytes, and merging for good is the same arithmetic as training.
 */
import { cloneTree, disposeTree, runOp } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { defineExpert } from '../define-expert.ts';
import type {
  ExpertBase,
  ExpertForward,
  ExpertGradients,
  ExpertKind,
  ExpertParameters,
  FusedLayer,
} from '../define-expert.ts';

/** An adapter of any kind of expert. */
export interface Adapter {
  /** Name of the adapted kind. */
  readonly name: string;
  /** The kind whose parts are frozen. */
  readonly base: ExpertKind;
  /** Whether a layer holds the frozen parts once, or each expert its own. */
  readonly scope: ExpertBase['scope'];
  /** Its own, trained parts. */
  readonly parts: ExpertKind['parts'];
  /** Own and frozen parts `[…]` → the parts that it changes. Borrows in, owned out. */
  merge(parameters: ExpertParameters): ExpertParameters;
  /** Gradients of the merged parts → those of its own. Borrows in, owned out. */
  backward(parameters: ExpertParameters, dmerged: ExpertGradients): ExpertGradients;
  /** First values of its own parts. */
  readonly initialise: NonNullable<ExpertKind['initialise']>;
}

interface AdaptedSaved {
  /** Of the base's kind. */
  readonly inner: unknown;
  /** Own and frozen parts. */
  readonly parameters: ExpertParameters;
}

interface AdaptedLayerSaved {
  readonly inner: unknown;
  readonly experts: readonly ExpertParameters[];
}

/**
 * A kind of expert that runs the base on merged parts `[…]` and keeps the gradients of its own.
 *
 * @param adapter - how parts are changed
 */
export function adaptedExpert(adapter: Adapter): ExpertKind {
  const { name, base, scope, parts, initialise } = adapter;
  const merge = (parameters: ExpertParameters): ExpertParameters => mergeParts(adapter, parameters);
  return defineExpert({
    name,
    parts,
    base: { kind: base, scope, merge },
    neuronAxis: Object.values(parts).some((axes) => axes.includes('F')) ? 'F' : null,
    initialise,
    forward: (x, parameters) => forward(adapter, x, parameters),
    backward: (saved, dy) =>
      runOp(`${name}.backward`, () => {
        const { inner, parameters } = saved as AdaptedSaved;
        const { dx, parameters: dmerged } = base.backward(inner, dy);
        return { dx, parameters: adapter.backward(parameters, dmerged) };
      }),
    flops: (rows, size) => base.flops(rows, size),
    ...(base.fused === undefined ? {} : { fused: fusedLayer(adapter, base.fused) }),
    trusted: base.trusted ?? false,
  });
}

function mergeParts(adapter: Adapter, parameters: ExpertParameters): ExpertParameters {
  return runOp(`${adapter.name}.merge`, () => {
    const changed = adapter.merge(parameters);
    const others = Object.keys(adapter.base.parts).filter((part) => changed[part] === undefined);
    const kept = Object.fromEntries(others.map((part) => [part, parameters[part]]));
    return { ...cloneTree(kept), ...changed } as ExpertParameters;
  });
}

function forward(adapter: Adapter, x_RD: Tensor2D, parameters: ExpertParameters): ExpertForward {
  return runOp(adapter.name, () => {
    const { value, saved } = adapter.base.forward(x_RD, mergeParts(adapter, parameters));
    return { value, saved: { inner: saved, parameters: cloneTree(parameters) } satisfies AdaptedSaved };
  });
}

function fusedLayer(adapter: Adapter, inner: FusedLayer): FusedLayer {
  return {
    forward: (x, weights, { experts, plan }) =>
      runOp(`${adapter.name}.layer`, () => {
        const merged = experts.map((own) => mergeParts(adapter, own));
        const { value, saved } = inner.forward(x, weights, { experts: merged, plan });
        return { value, saved: { inner: saved, experts: cloneTree(experts) } satisfies AdaptedLayerSaved };
      }),
    backward: (saved, dy) =>
      runOp(`${adapter.name}.layer.backward`, () => {
        const { inner: kept, experts } = saved as AdaptedLayerSaved;
        const gradients = inner.backward(kept, dy);
        const own = experts.map((parameters, e) => {
          const dmerged = gradients.experts[e] ?? {};
          const result = adapter.backward(parameters, dmerged);
          disposeTree(dmerged);
          return result;
        });
        return { dx: gradients.dx, dweights: gradients.dweights, experts: own };
      }),
  };
}
