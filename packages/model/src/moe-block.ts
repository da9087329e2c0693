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
import {
  addRouterGradients,
  routeBackward,
  routeForward,
  routeInference,
  takeLossGradients,
} from '@moebius/routing';
import type {
  ExecutorGradients,
  ExecutorSaved,
  ExpertExecutor,
  ExpertGradients,
  ExpertSource,
  GateObservation,
  Router,
  RouterBuffers,
  RouterOptions,
  RouterOutput,
  RouterParameters,
} from '@moebius/routing';
import { add, disposeTree, runOp } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { BackwardPass, ForwardPass, Taps } from './block.ts';

/** One sparse layer: its place, its router and who runs its experts. */
export interface MoeLayer {
  /** Layer index in the model. */
  readonly layer: number;
  /** Place among the layers that route pairs, from 0. */
  readonly place: number;
  /** How tokens choose experts. */
  readonly router: Router;
  /** The router's host arrays now. */
  readonly buffers: () => RouterBuffers;
  /** Where the experts live. */
  readonly experts: ExpertSource;
  /** Who runs them. */
  readonly executor: ExpertExecutor;
}

/** What enters the sub-layer. Tensors are borrowed. */
export interface MoeInput {
  /** float32 `[T, D]`, what the router and the routed experts read. */
  readonly routed: Tensor2D;
  /** float32 `[T, D]`, what shared experts read; a family without shared experts ignores it. */
  readonly shared: Tensor2D;
  /** The router's trained tensors by name. */
  readonly router: RouterParameters;
  /** What earlier layers offer. Default nothing. */
  readonly taps?: Taps;
}

/** What {@link takeMoeBackward} needs. */
export interface MoeSaved {
  /** Of the router. */
  readonly router: unknown;
  /** What the losses on the router saw; null for routes that are not pairs. */
  readonly observation: GateObservation | null;
  /** Of the experts. */
  readonly executor: ExecutorSaved;
}

/** What leaves the sub-layer. The caller owns it all. */
export interface MoeOutput {
  /** float32 `[T, D]` */
  readonly y: Tensor2D;
  /** What the router offers to later layers. */
  readonly taps: Taps;
  /** For {@link takeMoeBackward}; null unless training. */
  readonly saved: MoeSaved | null;
}

/** Gradients of the sub-layer; the caller owns them. */
export interface MoeGradients {
  /** float32 `[T, D]` */
  readonly drouted: Tensor2D;
  /** Of the router's tensors by name. */
  readonly router: RouterParameters;
  /** `[E]`, by part. */
  readonly experts: readonly ExpertGradients[];
  /** Of the taps the router used. */
  readonly dtaps: Taps;
}

/**
 * Routes tokens, runs their experts and sums their outputs by weight. The built-in gate reads once from the device.
 *
 * @param input - tensors `[…]`, borrowed
 * @param layer - the sub-layer
 * @param pass - observes the router; with a cache (generation) nothing is saved
 * @returns float32 `[T, D]` and what backward needs; the caller owns both
 */
export function* moeForward(input: MoeInput, layer: MoeLayer, pass: ForwardPass): Task<MoeOutput> {
  const { routed: x, router: parameters } = input;
  const request = { x, parameters, options: routerOptions(input, layer, pass) };
  const work = { layer: layer.layer, hidden: x, experts: layer.experts };
  if (pass.cache !== null && layer.router.infer !== undefined) {
    const route = routeInference(layer.router, request);
    try {
      const { y, saved } = yield* layer.executor.forward({ ...work, route });
      disposeTree(saved);
      return { y, taps: {}, saved: null };
    } finally {
      disposeTree(route);
    }
  }
  const output = routeForward(layer.router, request);
  const { route, logits, scores, saved: router, taps = {} } = output;
  const observation = observationOf(output, layer, pass);
  let kept = false;
  let isDone = false;
  try {
    if (observation !== null && pass.cache === null)
      pass.observe(layer.layer, { ...observation, parameters });
    const { y, saved } = yield* layer.executor.forward({ ...work, route });
    isDone = true;
    kept = pass.training;
    if (!kept) disposeTree(saved);
    return { y, taps, saved: kept ? { router, observation, executor: saved } : null };
  } finally {
    disposeTree(route);
    if (!isDone) disposeTree(taps);
    if (!kept) disposeTree(router);
    if (!kept || observation === null) disposeTree([logits, scores]);
  }
}

/** What balance losses and loads see: pairs have a plan, other routes have none. */
function observationOf(
  { route, primary, logits, scores }: RouterOutput,
  { router, buffers }: MoeLayer,
  { mask }: ForwardPass,
): GateObservation | null {
  if (route.kind !== 'pairs') return null;
  const config = router.gate ?? router;
  const plan = primary ?? route.plan;
  return { config, plan, logits, scores, buffers: buffers(), ...(mask === undefined ? {} : { mask }) };
}

function routerOptions(input: MoeInput, layer: MoeLayer, pass: ForwardPass): RouterOptions {
  const { rng, mask, step, domain } = pass;
  const { taps } = input;
  return {
    layer: layer.layer,
    buffers: layer.buffers(),
    phase: pass.phase,
    ids: pass.ids,
    positions: pass.hostPositions,
    sequences: pass.batch,
    ...(rng === undefined ? {} : { rng: rng.fork(layer.layer) }),
    ...(step === undefined ? {} : { step }),
    ...(mask === undefined ? {} : { mask }),
    ...(domain === undefined ? {} : { domain }),
    ...(taps === undefined ? {} : { taps }),
  };
}

/** Where {@link takeMoeBackward} is. Tensors are borrowed. */
export interface MoeBackwardScope {
  /** The sub-layer. */
  readonly layer: MoeLayer;
  /** Losses on its router. */
  readonly pass: BackwardPass;
  /** The router's trained tensors by name, for losses on them; borrowed. */
  readonly router: RouterParameters;
  /** Gradients of the taps it offered. Absent means zero. */
  readonly dtaps?: Taps;
}

/**
 * Gradients of {@link moeForward}. Frees `saved`.
 *
 * @param saved - taken
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @param scope - the sub-layer, the losses on its router, and the gradients of the taps it offered
 * @returns fresh gradients; the caller owns them
 */
export function* takeMoeBackward(
  saved: MoeSaved,
  dy_TD: Tensor2D,
  scope: MoeBackwardScope,
): Task<MoeGradients> {
  try {
    const executed = yield* scope.layer.executor.backward(saved.executor, dy_TD);
    const { hidden, route, experts } = executed;
    try {
      return { ...routerGradients(saved, { hidden, route }, scope), experts };
    } catch (error) {
      disposeTree(experts);
      throw error;
    } finally {
      disposeTree([hidden, route]);
    }
  } finally {
    disposeTree(saved);
  }
}

/** The losses' and the executor's gradients through the router, added to the experts' `[T, D]`. */
function routerGradients(
  saved: MoeSaved,
  executed: Pick<ExecutorGradients, 'hidden' | 'route'>,
  { layer, pass, router, dtaps }: MoeBackwardScope,
): Omit<MoeGradients, 'experts'> {
  return runOp('moe.routerBackward', () => {
    const { observation } = saved;
    // A layer's `saved` owns its tensors, so the router's are not in it.
    const seen = observation === null ? null : { ...observation, parameters: router };
    const balance = (seen === null ? [] : pass.balance).map(({ loss, ...asked }) =>
      loss.gradient(seen as GateObservation, { ...asked, layer: layer.place }),
    );
    const { parameters: own, ...upstream } = takeLossGradients(balance);
    const { dx, parameters, ...used } = routeBackward(layer.router, {
      saved: saved.router,
      upstream: {
        route: executed.route,
        ...upstream,
        ...(dtaps === undefined ? {} : { dtaps }),
      },
      shape: executed.hidden.shape,
      layer: layer.layer,
    });
    return {
      drouted: add<Tensor2D>(executed.hidden, dx),
      router: own === undefined ? parameters : (addRouterGradients([parameters, own]) ?? parameters),
      dtaps: used.dtaps ?? {},
    };
  });
}
