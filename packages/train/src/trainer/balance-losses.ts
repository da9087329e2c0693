/**
 * @file The balance losses of a run, and their statistics over all micro-batches of a step.
 *
 * A balance loss looks at a whole batch: with accumulation, its gradient in one micro-batch depends on where the
 * tokens of the others went. The counts it needs are found by a forward pass over every micro-batch before the first
 * backward; then four micro-batches of two sequences train like one of eight.
 */
import { runSync } from '@moebius/core';
import type { Rng } from '@moebius/core';
import { gatherStatistics } from '@moebius/model';
import type { DecoderModel, TokenBatch, WeightedLoss } from '@moebius/model';
import { addStatistics, loadBalanceLoss, readStatistics, zLoss } from '@moebius/routing';
import type { HostStatistics, LossStatistics } from '@moebius/routing';
import { disposeTree } from '@moebius/tensor';

import type { TrainConfig } from './train-config.ts';

/** A balance loss with what it saw of a whole step. */
export interface ReducedLoss extends WeightedLoss {
  /** Value over the whole step, without coefficient. */
  readonly value: number;
  /** Counts of every sparse layer over the whole step. */
  readonly counts: readonly Float64Array[];
  /** Sums of the same layers; only for a loss that needs them. */
  readonly sums?: readonly Float64Array[];
}

/** The balance losses that a configuration asks for. */
export function chooseBalanceLosses(config: TrainConfig): readonly WeightedLoss[] {
  const { losses, batch } = config;
  const chosen: WeightedLoss[] = [];
  if (losses.loadBalance > 0) {
    const { pooling, divideByTopK } = losses;
    const loss = loadBalanceLoss({
      pooling,
      divideByTopK,
      ...(pooling === 'per-sequence' ? { sequenceTokens: batch.length } : {}),
    });
    chosen.push({ loss, coefficient: losses.loadBalance });
  }
  if (losses.gateZ > 0) chosen.push({ loss: zLoss(), coefficient: losses.gateZ });
  return chosen;
}

/**
 * Statistics of the losses over all micro-batches of a step, by one forward pass each.
 *
 * @param model - borrowed
 * @param batches - ids of the micro-batches
 * @param options - the losses, and each micro-batch's random numbers: the same that its training pass will see
 */
export function reduceBalance(
  model: DecoderModel,
  batches: readonly TokenBatch[],
  options: {
    readonly losses: readonly WeightedLoss[];
    readonly rngs: readonly (Rng | undefined)[];
    readonly step: number;
  },
): ReducedLoss[] {
  const { losses, rngs, step } = options;
  const totals: HostStatistics[][] = losses.map(() => []);
  for (const [micro, input] of batches.entries()) {
    const rng = rngs[micro];
    const seen: LossStatistics[][] = losses.map(() => []);
    try {
      const { hidden } = runSync(
        model.forward(input, {
          phase: 'train',
          step,
          ...(rng === undefined ? {} : { rng }),
          observe: (_, observation) => {
            for (const [at, { loss }] of losses.entries()) seen[at]?.push(loss.statistics(observation));
          },
        }),
      );
      hidden.dispose();
      for (const [at, statistics] of seen.entries()) addLayers(totals[at] ?? [], readStatistics(statistics));
    } finally {
      disposeTree(seen.map((layers) => layers.map(({ sums }) => sums)));
    }
  }
  return losses.map(({ loss, coefficient }, at) => {
    const layers = totals[at] ?? [];
    return { loss, coefficient, value: loss.value(layers), ...gatherStatistics(loss, layers) };
  });
}

/** Adds the statistics of every layer to the totals, in place. */
function addLayers(totals: HostStatistics[], layers: readonly HostStatistics[]): void {
  for (const [layer, statistics] of layers.entries()) {
    const before = totals[layer];
    totals[layer] = before === undefined ? statistics : addStatistics(before, statistics);
  }
}
