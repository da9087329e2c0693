/**
 * @file The mixture-of-experts sub-layer: gate, executor, and the balance losses' way back into the gate.
 *
 * It reads two inputs: `routed` decides and feeds the experts, `shared` feeds shared experts. In a plain decoder both
 * are the same tensor; a shortcut layer gives it an earlier hidden state to route. The executor is a task: it may fetch
 * weights or send tokens, and the layer resumes it without knowing.
 *
 * Letters: `T` tokens · `D` model width · `E` experts · `N` routed pairs.
 */
import type { Task } from '@moebius/core';
import { gateBackward, gateForward, gateInference, takeLossGradients } from '@moebius/routing';
import type {
  ExecutorGradients,
  ExecutorSaved,
  ExpertExecutor,
  ExpertGradients,
  ExpertSource,
  GateConfig,
  GateObservation,
  GateSaved,
} from '@moebius/routing';
import { add, disposeTree, runOp } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { BackwardPass, ForwardPass } from './block.ts';

/** One sparse layer: its place, its gate and who runs its experts. */
export interface MoeLayer {
  /** Layer index in the model. */
  readonly layer: number;
  /** Place among the sparse layers, from 0. */
  readonly place: number;
  /** How tokens choose experts. */
  readonly gate: GateConfig;
  /** Where the experts live. */
  readonly experts: ExpertSource;
  /** Who runs them. */
  readonly executor: ExpertExecutor;
}

/** What enters the sub-layer. Tensors are borrowed. */
export interface MoeInput {
  /** float32 `[T, D]`, what the gate and the routed experts read. */
  readonly routed: Tensor2D;
  /** float32 `[T, D]`, what shared experts read; a family without shared experts ignores it. */
  readonly shared: Tensor2D;
  /** float32 `[E, D]`, the router. */
  readonly router: Tensor2D;
}

/** What {@link takeMoeBackward} needs. */
export interface MoeSaved {
  /** Of the gate. */
  readonly gate: GateSaved;
  /** What the losses on the gate saw. */
  readonly observation: GateObservation;
  /** Of the experts. */
  readonly executor: ExecutorSaved;
}

/** What leaves the sub-layer. The caller owns both. */
export interface MoeOutput {
  /** float32 `[T, D]` */
  readonly y: Tensor2D;
  /** For {@link takeMoeBackward}; null unless training. */
  readonly saved: MoeSaved | null;
}

/** Gradients of the sub-layer; the caller owns them. */
export interface MoeGradients {
  /** float32 `[T, D]` */
  readonly drouted: Tensor2D;
  /** float32 `[E, D]` */
  readonly drouter: Tensor2D;
  /** `[E]`, by part. */
  readonly experts: readonly ExpertGradients[];
}

/**
 * Routes tokens, runs their experts and sums their outputs by weight. One device-to-host read, for the plan.
 *
 * @param input - tensors `[…]`, borrowed
 * @param layer - the sub-layer
 * @param pass - observes the gate; with a cache (generation) nothing is saved
 * @returns float32 `[T, D]` and what backward needs; the caller owns both
 */
export function* moeForward(input: MoeInput, layer: MoeLayer, pass: ForwardPass): Task<MoeOutput> {
  const options = { config: layer.gate, layer: layer.layer };
  const parameters = { weight: input.router };
  const work = { layer: layer.layer, hidden: input.routed, experts: layer.experts };
  if (pass.cache !== null) {
    const route = gateInference(input.routed, parameters, options);
    try {
      const { y, saved } = yield* layer.executor.forward({ ...work, route });
      disposeTree(saved);
      return { y, saved: null };
    } finally {
      disposeTree(route);
    }
  }
  const { route, logits, scores, saved: gate } = gateForward(input.routed, parameters, options);
  const observation: GateObservation = { config: layer.gate, plan: route.plan, logits, scores };
  let kept = false;
  try {
    pass.observe(layer.layer, observation);
    const { y, saved } = yield* layer.executor.forward({ ...work, route });
    kept = pass.training;
    if (!kept) disposeTree(saved);
    return { y, saved: kept ? { gate, observation, executor: saved } : null };
  } finally {
    disposeTree(route);
    if (!kept) disposeTree({ gate, observation });
  }
}

/**
 * Gradients of {@link moeForward}. Frees `saved`.
 *
 * @param saved - taken
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @param scope - the sub-layer, and the losses on its gate
 * @returns fresh gradients; the caller owns them
 */
export function* takeMoeBackward(
  saved: MoeSaved,
  dy_TD: Tensor2D,
  scope: { readonly layer: MoeLayer; readonly pass: BackwardPass },
): Task<MoeGradients> {
  let executed: ExecutorGradients | null = null;
  let isKept = false;
  try {
    executed = yield* scope.layer.executor.backward(saved.executor, dy_TD);
    const { hidden, experts } = executed;
    const routeGradient = executed.route;
    const gate = runOp('moe.gateBackward', () => {
      const balance = scope.pass.balance.map(({ loss, scale, counts }) =>
        loss.gradient(saved.observation, { counts, layer: scope.layer.place, scale }),
      );
      const fromWeights = routeGradient.kind === 'pairs' ? { dweights: routeGradient.weights } : {};
      const { dx, dweight } = gateBackward(saved.gate, { ...fromWeights, ...takeLossGradients(balance) });
      return { drouted: add<Tensor2D>(hidden, dx), drouter: dweight };
    });
    disposeTree([hidden, routeGradient]);
    isKept = true;
    return { ...gate, experts };
  } finally {
    if (!isKept) disposeTree(executed);
    disposeTree(saved);
  }
}
