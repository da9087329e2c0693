/**
 * @file Experts of a few tokens, with nothing saved: only the chosen experts are touched.
 *
 * A decoded token chooses K of E experts. Pairs are grouped by expert, so leaving out the idle ones changes nothing
 * but the list of offsets. Same operation, same numbers as the local executor's fused path.
 *
 * Letters: `T` tokens · `D` model width · `E` experts · `K` top-k.
 */
import { MoebiusError, type Task } from '@moebius/core';
import type { DispatchPlan, ExpertSource, PairsRoute } from '@moebius/routing';
import { runOp } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

/** Which experts a plan uses, and the plan without the others. */
export interface BusyPlan {
  /** Int32Array, ids with at least one pair, ascending. */
  readonly ids: Int32Array;
  /** The plan over those experts; `source` still refers to all experts and must not be used with it. */
  readonly plan: DispatchPlan;
}

/**
 * Leaves idle experts out of a plan.
 *
 * @param plan - only read; its pair lists are shared
 */
export function planBusy(plan: DispatchPlan): BusyPlan {
  const ids = plan.stats.load.reduce<number[]>((busy, load, expert) => {
    if (load > 0) busy.push(expert);
    return busy;
  }, []);
  const offsets = Int32Array.of(0, ...ids.map((expert) => plan.offsets[expert + 1] ?? 0));
  return { ids: Int32Array.from(ids), plan: { ...plan, experts: ids.length, offsets } };
}

/**
 * Runs the chosen experts of a layer whose experts are of one kind with a fused form.
 *
 * @param hidden_TD - float32 `[T, D]`, borrowed
 * @param route - its weights `[N]` are borrowed
 * @param layer - the layer and where its experts live
 * @returns float32 `[T, D]`; the caller owns it
 */
export function* inferExperts(
  hidden_TD: Tensor2D,
  route: PairsRoute,
  layer: { readonly layer: number; readonly experts: ExpertSource },
): Task<Tensor2D> {
  const { ids, plan } = planBusy(route.plan);
  const lease = yield* layer.experts.acquire(layer.layer, ids);
  try {
    const { fused } = layer.experts.kind(ids[0] ?? 0);
    if (fused === undefined) {
      throw new MoebiusError({
        code: 'internal',
        message: `internal: layers[${layer.layer}] runs experts directly and must have a kind with a fused form`,
        details: { layer: layer.layer },
      });
    }
    return runOp('inferExperts', () => {
      const experts = Array.from(ids, (expert) => lease.parameters(expert));
      return fused.forward(hidden_TD, route.weights, { experts, plan }).value;
    });
  } finally {
    lease.release();
  }
}
