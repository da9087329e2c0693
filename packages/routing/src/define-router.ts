/**
 * @file Routers by value: what stands between hidden rows and a route.
 *
 * The gate of `gate.ts` is the built-in one (`topKRouter`); a third party writes its own and proves it with
 * `describeRouter` from `@moebius/routing/testing`.
 *
 * Letters: `T` tokens, `B` sequences, `D` model width, `E` experts.
 */
import { definePlugin } from '@moebius/core';
import type { Plugin, Rng } from '@moebius/core';
import type { Tensor, Tensor2D } from '@moebius/tensor';

import { assertNoFaults, missingFunctions } from './definition-faults.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import type { RouteGradients } from './expert-executor.ts';
import { gateScores } from './gate-config.ts';
import type { GateConfig, GateScore } from './gate-config.ts';
import type { Route } from './route.ts';
import type { TokenContext } from './token-context.ts';

/** Trained tensors of a router by name. */
export interface RouterParameters {
  readonly [name: string]: Tensor;
}

/** Host arrays of a router that no gradient moves, by name, as `selectionBias` `[E]`. */
export interface RouterBuffers {
  readonly [name: string]: Float32Array;
}

/** Plain JSON that a router was made from. */
export interface RouterSettings {
  readonly [name: string]: unknown;
}

/** What a router is run with, besides tensors that are trained. All borrowed, none written. */
export interface RouterOptions extends TokenContext {
  /** Those of `bufferShapes`. */
  readonly buffers?: RouterBuffers;
  /** A generator for this layer of this micro-batch of this step; absent outside training: then nothing is random. */
  readonly rng?: Rng;
  /** Int32Array `[T]`, token ids, where a model knows them. */
  readonly ids?: Int32Array;
  /** Int32Array `[T]`, place of each token in its sequence, where a model knows it. */
  readonly positions?: Int32Array;
  /** Tensors that earlier layers offered, by name. */
  readonly taps?: { readonly [name: string]: Tensor2D };
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
  /** For `backward`; free with `disposeTree`. Clones, never the inputs themselves. */
  readonly saved: unknown;
  /** Offered to later layers by name, float32 `[T, *]`. Default none. */
  readonly taps?: { readonly [name: string]: Tensor2D };
}

/** Gradients that reach a router. Absent means zero. Borrowed. */
export interface RouterUpstream {
  /** Of the route's tensors, from the executor. */
  readonly route?: RouteGradients;
  /** float32 `[T, E]`. */
  readonly dlogits?: Tensor2D;
  /** float32 `[T, E]`. */
  readonly dscores?: Tensor2D;
  /** Of the taps it offered. */
  readonly dtaps?: { readonly [name: string]: Tensor2D };
}

/** Gradients of a router. Caller owns them. */
export interface RouterGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** By the names of its parameters. */
  readonly parameters: RouterParameters;
  /** Of the taps it used. Absent means zero. */
  readonly dtaps?: { readonly [name: string]: Tensor2D };
}

/** How a trained tensor is asked to begin. */
export interface InitialRequest {
  /** `[…]` */
  readonly shape: readonly number[];
  /** Of this tensor alone. */
  readonly rng: Rng;
  /** The model's `initializer_range`. */
  readonly standardDeviation: number;
}

/** Where a layer's tokens went in one step, over all its micro-batches. */
export interface RouterLoad {
  /** Float64Array `[E]`: pairs of each expert. */
  readonly load: Float64Array;
  /** Tokens that were routed or could have been: all but the masked ones. Absent: not known. */
  readonly tokens?: number;
  /** Layer index. */
  readonly layer: number;
  /** Steps done, this one included. */
  readonly step: number;
}

/** A router, by value. */
export interface Router extends Plugin {
  /** Extension point. */
  readonly kind: 'router';
  /** Experts `E` it routes to. */
  readonly experts: number;
  /** Experts of a token; the mean where it varies, `E` where every expert sees every token. */
  readonly topK: number;
  /** The one kind of route that it gives. */
  readonly route: Route['kind'];
  /** What `scores` are: rows of a softmax, one of the element-wise functions, or the logits. */
  readonly score: GateScore;
  /**
   * Whether the route of a token outside training depends on nothing that comes after it. Where it is false, generation does not do
   * what training did, and whoever makes a decoder should be told.
   */
  readonly causal: boolean;
  /** What its factory made it from; stored with a model. */
  readonly options?: RouterSettings;
  /** The pipeline that this router is, exactly: a model may run a fused form of it. Absent for every other router. */
  readonly gate?: GateConfig;
  /** Its outputs are not checked again, which saves reading them. For routers that pass `describeRouter`. */
  readonly trusted: boolean;
  /** Shapes of its trained tensors for a model width. */
  parameterShapes(modelWidth: number): Readonly<Record<string, readonly number[]>>;
  /** Shapes of its host buffers. */
  bufferShapes(): Readonly<Record<string, readonly number[]>>;
  /** First values of a trained tensor. Default: matrices normal, all else 0. */
  initialise?(parameter: string, request: InitialRequest): Float32Array;
  /** First values of a buffer. Default 0. */
  initialiseBuffer?(buffer: string, length: number): Float32Array;
  /** `x` float32 `[T, D]` → route. Borrows in, owned out. */
  forward(x: Tensor2D, parameters: RouterParameters, options: RouterOptions): RouterOutput;
  /** The route of `forward` alone, `x` `[T, D]`, for generation. Default: `forward`. */
  infer?(x: Tensor2D, parameters: RouterParameters, options: RouterOptions): Route;
  /** Gradients of one forward. Borrows in, owned out. */
  backward(saved: unknown, upstream: RouterUpstream): RouterGradients;
  /** The buffers after a training step, fresh arrays. Default: they stay. */
  advance?(buffers: RouterBuffers, seen: RouterLoad): RouterBuffers;
}

/** A router without what {@link defineRouter} fills in: `pairs`, `softmax`, causal, not trusted. */
export type RouterDefinition = Omit<Router, 'kind' | 'route' | 'score' | 'causal' | 'trusted'> &
  Partial<Pick<Router, 'route' | 'score' | 'causal' | 'trusted'>>;

const routeKinds: readonly Route['kind'][] = ['pairs', 'slots', 'merge'];
const scoreNames: readonly GateScore[] = gateScores;
const optionalHooks = ['initialise', 'initialiseBuffer', 'infer', 'advance'] as const;

/**
 * Checks and freezes a router.
 *
 * @param definition - the router; prove it with `describeRouter`
 * @throws `plugin` naming every fault
 */
export function defineRouter(definition: RouterDefinition): Router {
  const faults = missingFunctions(definition, ['parameterShapes', 'bufferShapes', 'forward', 'backward']);
  const { experts, topK, route = 'pairs', score = 'softmax', causal = true, trusted = false } = definition;
  if (!Number.isInteger(experts) || experts < 1) {
    faults.push(`experts: must be an integer of at least 1, got ${String(experts)}`);
  }
  if (typeof topK !== 'number' || !(topK > 0 && topK <= experts)) {
    faults.push(`topK: must be above 0 and at most experts ${String(experts)}, got ${String(topK)}`);
  }
  if (!routeKinds.includes(route)) {
    faults.push(`route: must be one of ${routeKinds.join(', ')}, got ${String(route)}`);
  }
  if (!scoreNames.includes(score)) {
    faults.push(`score: must be one of ${scoreNames.join(', ')}, got ${String(score)}`);
  }
  if (typeof causal !== 'boolean') faults.push(`causal: must be true or false, got ${String(causal)}`);
  const given = optionalHooks.filter((hook) => definition[hook] !== undefined);
  faults.push(...missingFunctions(definition, given));
  assertNoFaults(`router "${String(definition.name)}"`, faults);
  return definePlugin({ ...definition, route, score, causal, trusted, kind: 'router' });
}
