/**
 * @file Routes: what a router hands to an executor.
 *
 * Letters: `T` tokens, `E` experts, `N` routed pairs, `S` slots, `G` groups.
 */
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import type { DispatchPlan } from './dispatch-plan.ts';

/** Every token goes to its own list of experts: token choice, expert choice, capacity, expansion, thresholds. */
export interface PairsRoute {
  /** Discriminator. */
  readonly kind: 'pairs';
  /** Who goes where. */
  readonly plan: DispatchPlan;
  /** float32 `[N]`, combine weight of each pair in plan order (grouped by expert); carries the gradient. */
  readonly weights: Tensor1D;
}

/** Every expert slot reads a mix of tokens (Soft MoE). */
export interface SlotsRoute {
  /** Discriminator. */
  readonly kind: 'slots';
  /** float32 `[T, S]`, share of each token in each slot; columns sum to 1. Slot `s` belongs to expert `s / p`, where `S = E·p`. */
  readonly dispatch: Tensor2D;
  /** float32 `[T, S]`, share of each slot in each token's output; rows sum to 1, those of padding to 0. */
  readonly combine: Tensor2D;
}

/** Experts are merged before they run (SMEAR, Lory). */
export interface MergeRoute {
  /** Discriminator. */
  readonly kind: 'merge';
  /** float32 `[G, E]`, share of each expert in the merged expert of each group; rows sum to 1. */
  readonly mix: Tensor2D;
  /** Int32Array `[T]`, group of each token; -1 leaves a token out (padding). */
  readonly group: Int32Array;
}

/** What a router decided, by kind. An executor says which kinds it accepts. */
export type Route = PairsRoute | SlotsRoute | MergeRoute;
