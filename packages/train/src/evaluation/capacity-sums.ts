/**
 * @file What a capacity did over an evaluation: plans before and after, summed by layer, and the time they are predicted to take.
 */
import { defineCapacityPolicy } from '@moebius/routing';
import type { CapacityPolicy, DispatchPlan } from '@moebius/routing';
import type { LatencyModel, LayerTime } from '@moebius/routing/latency';

/** One sparse layer under a capacity. Means are over batches. */
export interface CapacityLayerReport {
  /** Layer index. */
  readonly layer: number;
  /** Mean over batches of the largest load over the mean load of the router's own choice. */
  readonly peakBefore: number;
  /** The same of what ran, over the same mean load. */
  readonly peak: number;
  /** Share of the router's pairs that were dropped. */
  readonly dropRatio: number;
  /** Pairs that were added, as a share of the router's. */
  readonly addedRatio: number;
  /** Tokens that had a pair. */
  readonly tokens: number;
  /** Of these, tokens that lost every pair. */
  readonly orphans: number;
  /** Pairs that ran as a share of all that the caps would allow; null where nothing was capped. */
  readonly utilisation: number | null;
  /** Predicted seconds of a batch, the router's own choice; null without a latency model. */
  readonly secondsBefore: number | null;
  /** Predicted seconds of a batch as it ran; null without a latency model. */
  readonly seconds: number | null;
  /** Largest load of a device before over after, mean over batches: a bound on what experts can gain; null without a latency model. */
  readonly bound: number | null;
}

interface LayerSums {
  batches: number;
  pairs: number;
  dropped: number;
  added: number;
  tokens: number;
  orphans: number;
  kept: number;
  slots: number;
  peakBefore: number;
  peak: number;
  secondsBefore: number;
  seconds: number;
  bound: number;
}

/** Watches the plans of one evaluation. */
export interface CapacityWatch {
  /** The same policy; every plan it makes is counted. */
  readonly policy: CapacityPolicy;
  /** Sparse layers, first to last. */
  report(): readonly CapacityLayerReport[];
}

/**
 * A policy that counts what it does.
 *
 * @param policy - whose plans are counted; undefined leaves every plan as it is
 * @param latency - predicts times
 */
export function watchCapacity(
  policy: CapacityPolicy | undefined,
  latency: LatencyModel | undefined,
): CapacityWatch {
  const layers = new Map<number, LayerSums>();
  const note = (layer: number, before: DispatchPlan, after: DispatchPlan): void => {
    const sums = layers.get(layer) ?? emptySums();
    layers.set(layer, sums);
    addPlans(sums, { before, after, latency });
  };
  return {
    policy: defineCapacityPolicy({
      name: policy?.name ?? 'dropless',
      ...(policy === undefined
        ? {}
        : {
            weights: policy.weights,
            causal: policy.causal,
            sizeFaults: (sizes) => policy.sizeFaults(sizes),
          }),
      plan: (problem) => {
        const after = policy?.plan(problem) ?? problem.primary;
        note(problem.layer ?? 0, problem.primary, after);
        return after;
      },
    }),
    report: () =>
      [...layers]
        .toSorted(([left], [right]) => left - right)
        .map(([layer, sums]) => describeSums(layer, sums, latency !== undefined)),
  };
}

function emptySums(): LayerSums {
  return {
    batches: 0,
    pairs: 0,
    dropped: 0,
    added: 0,
    tokens: 0,
    orphans: 0,
    kept: 0,
    slots: 0,
    peakBefore: 0,
    peak: 0,
    secondsBefore: 0,
    seconds: 0,
    bound: 0,
  };
}

interface Plans {
  readonly before: DispatchPlan;
  readonly after: DispatchPlan;
  readonly latency: LatencyModel | undefined;
}

function addPlans(sums: LayerSums, { before, after, latency }: Plans): void {
  const { capacity } = after.stats;
  const mean = before.stats.pairs / before.experts;
  sums.batches += 1;
  sums.pairs += before.stats.pairs;
  sums.dropped += capacity?.dropped ?? 0;
  sums.added += capacity?.expanded ?? 0;
  sums.tokens += before.stats.routedTokens;
  sums.orphans += capacity?.orphans ?? 0;
  sums.kept += after.stats.pairs;
  sums.slots += after.experts * (capacity?.limit.reduce((sum, limit) => sum + limit, 0) ?? 0);
  sums.peakBefore += mean === 0 ? 0 : before.stats.maxLoad / mean;
  sums.peak += mean === 0 ? 0 : after.stats.maxLoad / mean;
  if (latency === undefined) return;
  const first = latency.layerTime(before);
  const second = after === before ? first : latency.layerTime(after);
  sums.secondsBefore += first.seconds;
  sums.seconds += second.seconds;
  sums.bound += busiest(first) / Math.max(1, busiest(second));
}

function busiest({ devices }: LayerTime): number {
  return Math.max(...devices.map(({ rows }) => rows));
}

function describeSums(layer: number, sums: LayerSums, timed: boolean): CapacityLayerReport {
  const { batches, pairs, tokens, orphans } = sums;
  return {
    layer,
    peakBefore: sums.peakBefore / batches,
    peak: sums.peak / batches,
    dropRatio: pairs === 0 ? 0 : sums.dropped / pairs,
    addedRatio: pairs === 0 ? 0 : sums.added / pairs,
    tokens,
    orphans,
    utilisation: sums.slots === 0 ? null : sums.kept / sums.slots,
    secondsBefore: timed ? sums.secondsBefore / batches : null,
    seconds: timed ? sums.seconds / batches : null,
    bound: timed ? sums.bound / batches : null,
  };
}
