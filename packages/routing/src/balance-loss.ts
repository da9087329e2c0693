/**
 * @file Balance losses as additive statistics.
 *
 * A loss is three functions: `statistics` of one layer's gate (a vector of host counts and a vector of device sums, both
 * *additive* over micro-batches and ranks), `value` of the reduced statistics of all layers, and `gradient`. Most need only the
 * reduced counts for it, so that a training step need not wait for the device to learn a loss; one whose value is not linear in its
 * sums says that it `needs` them.
 *
 * Letters: `T` tokens, `E` experts, `L` layers.
 */
import { definePlugin } from '@moebius/core';
import type { Plugin } from '@moebius/core';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { assertNoFaults, missingFunctions } from './definition-faults.ts';
import type { RouterBuffers, RouterParameters } from './define-router.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import type { GateConfig } from './gate-config.ts';

/** What a loss needs to know of a gate or router. A {@link GateConfig} is one. */
export type GateView = Pick<GateConfig, 'experts' | 'topK' | 'score'> &
  Partial<Pick<GateConfig, 'renormalise'>>;

/** What a loss sees of one layer's gate. Tensors are borrowed. */
export interface GateObservation {
  /** Experts, experts of a token, and what `scores` are. */
  readonly config: GateView;
  /** Who went where. */
  readonly plan: DispatchPlan;
  /** float32 `[T, E]`. */
  readonly logits: Tensor2D;
  /** float32 `[T, E]`, score of every expert before selection: softmax rows sum to 1. */
  readonly scores: Tensor2D;
  /** Uint8Array `[T]`, 0 leaves a token out of the loss (padding). */
  readonly mask?: Uint8Array;
  /** Host arrays of the layer's router now, as the coefficient `lambda` `[1]` of a ReLU router. Only read. */
  readonly buffers?: RouterBuffers;
  /** The router's trained tensors, where they are known. */
  readonly parameters?: RouterParameters;
  /** Int32Array `[T]`: domain, task or language of each token, as routers are told it, where it is known. */
  readonly domain?: Int32Array;
}

/** What a loss may need for its gradient beside the reduced counts. */
export type LossNeed = 'sums' | 'parameters';

/** Statistics of one layer on this process. Both vectors add up over micro-batches and ranks. */
export interface LossStatistics {
  /** Known on the host at once. */
  readonly counts: Float64Array;
  /** float32, on the device until somebody wants the value; caller owns. */
  readonly sums: Tensor1D;
}

/** Statistics of one layer, on the host, possibly added over micro-batches and ranks. */
export interface HostStatistics {
  /** Same layout as {@link LossStatistics.counts}. */
  readonly counts: Float64Array;
  /** Same layout as {@link LossStatistics.sums}. */
  readonly sums: Float64Array;
}

/** Where a gradient is asked for. */
export interface LossGradientOptions {
  /** Reduced counts of every layer of the model that has this loss, in layer order. */
  readonly counts: readonly Float64Array[];
  /** Reduced sums of the same layers; always given to a loss that needs `sums`. */
  readonly sums?: readonly Float64Array[];
  /** Position of the observed layer in `counts`. */
  readonly layer: number;
  /** Multiplies the gradient: coefficient, loss scale. */
  readonly scale: number;
}

/** Gradient of a loss for one layer's gate; caller owns the tensors. Feed it to `gateBackward`. */
export interface LossGradient {
  /** float32 `[T, E]`. */
  readonly dlogits?: Tensor2D;
  /** float32 `[T, E]`. */
  readonly dscores?: Tensor2D;
  /** Of the router's trained tensors, by name; absent means zero. */
  readonly parameters?: RouterParameters;
}

/** A loss on the gates of a model, by value. */
export interface BalanceLoss extends Plugin {
  /** Extension point. */
  readonly kind: 'balance-loss';
  /** Name in metrics, as in `load-balance`. */
  readonly name: string;
  /** What its gradient needs beside the reduced counts. Default nothing. */
  readonly needs?: readonly LossNeed[];
  /** Additive statistics of one layer. Borrows the observation; caller owns `sums`. */
  statistics(observation: GateObservation): LossStatistics;
  /** Value of the loss for reduced statistics of all layers, without coefficient. 0 when there are no tokens. */
  value(layers: readonly HostStatistics[]): number;
  /** Gradient of `scale · value` for one layer's `[T, E]` logits or scores. Caller owns the tensors. */
  gradient(observation: GateObservation, options: LossGradientOptions): LossGradient;
}

/**
 * Checks and freezes a balance loss.
 *
 * @param definition - the loss; the conformance kit `describeBalanceLoss` checks that gradient and value agree
 * @throws `plugin` naming every fault
 */
export function defineBalanceLoss(definition: Omit<BalanceLoss, 'kind'>): BalanceLoss {
  const faults = missingFunctions(definition, ['statistics', 'value', 'gradient']);
  assertNoFaults(`balance loss "${String(definition.name)}"`, faults);
  return definePlugin({ ...definition, kind: 'balance-loss' });
}
