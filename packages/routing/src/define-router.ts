/**
 * @file Routers by value: what stands between hidden rows and a route.
 *
 * The gate of `gate.ts` is the built-in one ({@link topKRouter}); a third party writes its own and proves it with
 * `describeRouter` from `@moebius/routing/testing`.
 *
 * Letters: `T` tokens, `D` model width, `E` experts.
 */
import { MoebiusError, definePlugin } from '@moebius/core';
import type { Plugin } from '@moebius/core';
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

import { assertNoFaults, missingFunctions } from './definition-faults.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import type { RouteGradients } from './expert-executor.ts';
import type { GateConfig } from './gate-config.ts';
import { gateBackward, gateForward } from './gate.ts';
import type { GateParameters, GateSaved } from './gate.ts';
import type { Route } from './route.ts';
import type { TokenContext } from './token-context.ts';

/** Trained tensors of a router by name. */
export interface RouterParameters {
  readonly [name: string]: Tensor;
}

/** What a router is run with, besides tensors that are trained. */
export interface RouterOptions extends TokenContext {
  /** Host arrays that are not trained by gradient, by name, as `selectionBias` `[E]`. */
  readonly buffers?: Readonly<Record<string, Float32Array>>;
}

/** What a router returns. Caller owns every tensor. */
export interface RouterOutput {
  /** Who goes where. */
  readonly route: Route;
  /** The plan before a capacity policy, for balance losses; absent: the route's own plan. */
  readonly primary?: DispatchPlan;
  /** float32 `[T, E]`, for z-losses. */
  readonly logits: Tensor2D;
  /** float32 `[T, E]`, for balance losses. */
  readonly scores: Tensor2D;
  /** For `backward`; free with `disposeTree`. */
  readonly saved: unknown;
}

/** Gradients that reach a router. Absent means zero. Borrowed. */
export interface RouterUpstream {
  /** Of the route's tensors, from the executor. */
  readonly route?: RouteGradients;
  /** float32 `[T, E]`. */
  readonly dlogits?: Tensor2D;
  /** float32 `[T, E]`. */
  readonly dscores?: Tensor2D;
}

/** Gradients of a router. Caller owns them. */
export interface RouterGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** By the names of its parameters. */
  readonly parameters: RouterParameters;
}

/** A router, by value. */
export interface Router extends Plugin {
  /** Extension point. */
  readonly kind: 'router';
  /** Experts `E` it routes to. */
  readonly experts: number;
  /** Shapes of its trained tensors for a model width. */
  parameterShapes(modelWidth: number): Readonly<Record<string, readonly number[]>>;
  /** Shapes of its host buffers. */
  bufferShapes(): Readonly<Record<string, readonly number[]>>;
  /** `x` float32 `[T, D]` → route. Borrows in, owned out. */
  forward(x: Tensor2D, parameters: RouterParameters, options: RouterOptions): RouterOutput;
  /** Gradients of one forward. Borrows in, owned out. */
  backward(saved: unknown, upstream: RouterUpstream): RouterGradients;
}

/**
 * Checks and freezes a router.
 *
 * @param definition - the router; prove it with `describeRouter`
 * @throws `plugin` naming every fault
 */
export function defineRouter(definition: Omit<Router, 'kind'>): Router {
  const faults = missingFunctions(definition, ['parameterShapes', 'bufferShapes', 'forward', 'backward']);
  if (!Number.isInteger(definition.experts) || definition.experts < 1) {
    faults.push(`experts: must be an integer of at least 1, got ${String(definition.experts)}`);
  }
  assertNoFaults(`router "${String(definition.name)}"`, faults);
  return definePlugin({ ...definition, kind: 'router' });
}

/**
 * The gate pipeline as a router named `top-k`. Parameters `weight` `[E, D]` and, with a logit bias, `bias` `[E]`; buffer
 * `selectionBias` `[E]` when the gate has one.
 *
 * @param config - a parsed gate
 */
export function topKRouter(config: GateConfig): Router {
  return defineRouter({
    name: 'top-k',
    experts: config.experts,
    parameterShapes: (modelWidth) => ({
      weight: [config.experts, modelWidth],
      ...(config.logitBias ? { bias: [config.experts] } : {}),
    }),
    bufferShapes: () => (config.selectionBias ? { selectionBias: [config.experts] } : {}),
    forward: (x, parameters, { buffers, ...options }) =>
      gateForward(x, gateParameters(parameters, buffers), { config, ...options }),
    backward: (saved, { route, ...upstream }) => {
      const { dx, dweight, dbias } = gateBackward(saved as GateSaved, { ...upstream, ...weightsOf(route) });
      return { dx, parameters: { weight: dweight, ...(dbias === undefined ? {} : { bias: dbias }) } };
    },
  });
}

function gateParameters(parameters: RouterParameters, buffers: RouterOptions['buffers']): GateParameters {
  const { weight, bias } = parameters;
  const selectionBias = buffers?.['selectionBias'];
  return {
    weight: weight as Tensor2D,
    ...(bias === undefined ? {} : { bias: bias as Tensor1D }),
    ...(selectionBias === undefined ? {} : { selectionBias }),
  };
}

function weightsOf(route: RouteGradients | undefined): { dweights?: Tensor1D } {
  if (route === undefined) return {};
  if (route.kind === 'pairs') return { dweights: route.weights };
  throw new MoebiusError({
    code: 'plugin',
    message: `router top-k: gradients must be of route kind pairs, got ${route.kind} (pass back what the executor returned)`,
    details: { kind: route.kind },
  });
}
