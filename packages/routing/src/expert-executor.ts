/**
 * @file The executor port: whoever runs experts on routed tokens.
 *
 * The port is owned here, below its implementers: the local executor lives beside it; parallel, offloaded and partitioned
 * executors live in upper packages. Both passes are tasks, because weights may have to be fetched and tokens sent.
 *
 * Letters: `T` tokens, `D` model width, `N` routed pairs, `E` experts.
 */
import { definePlugin } from '@moebius/core';
import type { Plugin, Task } from '@moebius/core';
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

import { assertNoFaults, missingFunctions } from './definition-faults.ts';
import type { ExpertGradients, ExpertKind, ExpertParameters } from './define-expert.ts';
import type { Route } from './route.ts';

/** Parameters that are readable until `release`. */
export interface Lease {
  /** Borrowed tensors of one acquired expert, by part name. */
  parameters(expert: number): ExpertParameters;
  /** Gives the parameters back; call exactly once. */
  release(): void;
}

/** Where experts live: memory, disk, another precision. */
export interface ExpertSource {
  /** Number of experts `E` of a layer. */
  readonly experts: number;
  /** Whether acquiring every expert costs nothing: executors may then fuse a layer and fill in zero gradients. */
  readonly resident: boolean;
  /** The kind of one expert. */
  kind(expert: number): ExpertKind;
  /**
   * Makes experts readable.
   *
   * @param layer - layer index
   * @param ids - experts that have tokens, ascending
   * @param prefix - `[E]`, which neuron prefix of each expert is needed; absent means whole experts
   */
  acquire(layer: number, ids: Int32Array, prefix?: Uint8Array): Task<Lease>;
}

/** What one layer hands to an executor. Tensors are borrowed. */
export interface ExecutorInput {
  /** Layer index, for messages and for stores. */
  readonly layer: number;
  /** float32 `[T, D]`, what the experts read. */
  readonly hidden: Tensor2D;
  /** Who goes where, with which weight. */
  readonly route: Route;
  /** Where the experts live. */
  readonly experts: ExpertSource;
}

/** What an executor kept for its backward pass. Opaque: only its own `backward` reads it; free it with `disposeTree`. */
export interface ExecutorSaved {
  /** Name of the executor that made it. */
  readonly executor: string;
  /** Tensors and plain data; owned by the holder. */
  readonly state: unknown;
}

/** What an executor's forward pass returns. Caller owns both. */
export interface ExecutorOutput {
  /** float32 `[T, D]`, weighted sum of the experts' outputs; zero rows for tokens without a pair. */
  readonly y: Tensor2D;
  /** For `backward`; free with `disposeTree`. */
  readonly saved: ExecutorSaved;
}

/** What an executor's backward pass returns. Caller owns every tensor. */
export interface ExecutorGradients {
  /** float32 `[T, D]`, gradient of the hidden rows that the experts read. */
  readonly hidden: Tensor2D;
  /** Gradient of the route's tensors. For `pairs`: `{ weights }`, float32 `[N]` in plan order. */
  readonly route: RouteGradients;
  /** `[E]`, by part name; zeros for an expert without rows (`{}` when it was not acquired: absent means zero). */
  readonly experts: readonly ExpertGradients[];
}

/** Gradients of the tensors of a route, by kind. */
export type RouteGradients =
  | { readonly kind: 'pairs'; readonly weights: Tensor1D }
  | { readonly kind: 'slots'; readonly dispatch: Tensor2D; readonly combine: Tensor2D }
  | { readonly kind: 'merge'; readonly mix: Tensor2D };

/** Runs experts on routed tokens, forward and backward. */
export interface ExpertExecutor extends Plugin {
  /** Extension point. */
  readonly kind: 'executor';
  /** Name, for messages and configurations. */
  readonly name: string;
  /** Route kinds that it can run. */
  readonly accepts: readonly Route['kind'][];
  /** Runs the experts. Borrows its input; the caller owns the output. */
  forward(input: ExecutorInput): Task<ExecutorOutput>;
  /**
   * Gradients of one forward. Borrows both.
   *
   * @param saved - from `forward`
   * @param dy - float32 `[T, D]`
   */
  backward(saved: ExecutorSaved, dy: Tensor2D): Task<ExecutorGradients>;
}

/**
 * Checks and freezes an executor.
 *
 * @param definition - the executor; the conformance kit `describeExecutor` checks it against a loop oracle
 * @throws `plugin` naming every fault
 */
export function defineExecutor(definition: Omit<ExpertExecutor, 'kind'>): ExpertExecutor {
  const faults = missingFunctions(definition, ['forward', 'backward']);
  if (!Array.isArray(definition.accepts) || definition.accepts.length === 0) {
    faults.push('accepts: must list at least one route kind');
  }
  assertNoFaults(`executor "${String(definition.name)}"`, faults);
  return definePlugin({ ...definition, kind: 'executor' });
}

/** Every tensor of a set of gradients, in a fixed order, for reductions and tests. */
export function listGradients(gradients: ExecutorGradients): Tensor[] {
  const route = gradients.route;
  const routed: Tensor[] =
    route.kind === 'pairs'
      ? [route.weights]
      : route.kind === 'slots'
        ? [route.dispatch, route.combine]
        : [route.mix];
  return [gradients.hidden, ...routed, ...gradients.experts.flatMap((expert) => Object.values(expert))];
}
