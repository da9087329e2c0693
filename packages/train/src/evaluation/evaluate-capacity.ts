/**
 * @file Measuring what a capacity costs: held-out loss under each setting, paired with the same model without a capacity, beside what was
 * dropped and the layer time that is predicted.
 */
import { MoebiusError } from '@moebius/core';
import { capModel } from '@moebius/model';
import type { DecoderModel } from '@moebius/model';
import { capacityPolicy } from '@moebius/routing';
import type { CapacityConfig, CapacityPolicy } from '@moebius/routing';
import type { LatencyModel } from '@moebius/routing/latency';

import type { TokenShard } from '../data/token-shard.ts';
import { differenceInLoss } from './bootstrap.ts';
import type { DifferenceInterval } from './bootstrap.ts';
import { watchCapacity } from './capacity-sums.ts';
import type { CapacityLayerReport } from './capacity-sums.ts';
import { evaluateDocuments } from './evaluate-documents.ts';
import type { DocumentsResult, EvaluateDocumentsOptions } from './evaluate-documents.ts';

/** One setting to measure. */
export interface CapacitySetting {
  /** As it is called in the report; each once. */
  readonly name: string;
  /** What to do: a parsed method, or a policy of your own. */
  readonly capacity: CapacityConfig | CapacityPolicy;
}

/** How a model did under one setting. */
export interface CapacityMeasurement extends DocumentsResult {
  /** Of the setting, or `dropless`. */
  readonly name: string;
  /** Loss less that of the model without a capacity, nats per token, with the middle 95 % of paired draws of documents. */
  readonly difference: DifferenceInterval;
  /** Share of the router's pairs that were dropped. */
  readonly dropRatio: number;
  /** Pairs that were added, as a share of the router's. */
  readonly addedRatio: number;
  /** Tokens that lost every pair, as a share of tokens, mean over sparse layers. */
  readonly orphanRatio: number;
  /** Largest load over the mean load of the router's choice: mean over batches and sparse layers. */
  readonly peak: number;
  /** Predicted seconds of the sparse layers for a batch; null without a latency model. */
  readonly layerSeconds: number | null;
  /** Predicted seconds without a capacity over these; null without a latency model. */
  readonly speedUp: number | null;
  /** Sparse layers, first to last. */
  readonly layers: readonly CapacityLayerReport[];
}

/** A model under all settings. */
export interface CapacityEvaluation {
  /** Without a capacity. */
  readonly dropless: CapacityMeasurement;
  /** In the order of the settings. */
  readonly settings: readonly CapacityMeasurement[];
}

/** How to measure; `onProgress` is told the share of all settings. */
export interface EvaluateCapacityOptions extends Omit<EvaluateDocumentsOptions, 'skipPadding'> {
  /** What to measure beside the model as it is. */
  readonly settings: readonly CapacitySetting[];
  /** Predicts layer times. Default: none is predicted. */
  readonly latency?: LatencyModel | undefined;
  /** Told after each setting, the model without a capacity first. */
  readonly onMeasured?: (measurement: CapacityMeasurement) => void;
}

/**
 * Measures a model on held-out text under capacity settings, one after the other, on the same windows. Padding behind a document's end is
 * not routed, so that it takes no capacity. The model's weights and folder stay as they are.
 *
 * With the `score` key a token's experts depend on later tokens of its batch: such a loss looks ahead a little.
 *
 * @param model - borrowed
 * @param shard - of a tokenizer whose ids the model knows
 * @param options - settings, windows, latency model
 * @throws `configuration` when a setting does not fit the model, a router gives no pairs, the model has no sparse layer, or two settings
 *   have one name: before anything is measured; `data` and `aborted` as `evaluateDocuments`
 * @example
 * ```ts
 * import { loadModel } from '@moebius/model';
 * import { parseCapacityConfig } from '@moebius/routing';
 *
 * declare const heldOut: TokenShard;
 * const model = await loadModel('runs/demo/model');
 * const capacity = parseCapacityConfig({ method: 'drop', gamma: 1.25 });
 * const { settings } = await evaluateCapacity(model, heldOut, { settings: [{ name: 'token drop', capacity }] });
 * settings[0]?.difference.interval; // nats per token, for example [0.01, 0.02]
 * ```
 */
export async function evaluateCapacity(
  model: DecoderModel,
  shard: TokenShard,
  options: EvaluateCapacityOptions,
): Promise<CapacityEvaluation> {
  const { settings, latency, onProgress, onMeasured, ...rest } = options;
  assertSettings(model, settings);
  const runs = [{ name: 'dropless', capacity: undefined }, ...settings];
  const done: CapacityMeasurement[] = [];
  for (const [at, { name, capacity }] of runs.entries()) {
    const watch = watchCapacity(capacity === undefined ? undefined : policyOf(capacity), latency);
    const capped = capModel(model, watch.policy);
    try {
      const result = await evaluateDocuments(capped, shard, {
        ...rest,
        skipPadding: true,
        onProgress: (share) => onProgress?.((at + share) / runs.length),
      });
      const measured = describe(name, { result, layers: watch.report(), dropless: done[0], seed: rest.seed });
      done.push(measured);
      onMeasured?.(measured);
    } finally {
      capped.dispose();
    }
  }
  const [dropless, ...measured] = done;
  if (dropless === undefined)
    throw new MoebiusError({ code: 'internal', message: 'internal: nothing measured' });
  return { dropless, settings: measured };
}

interface Measured {
  readonly result: DocumentsResult;
  readonly layers: readonly CapacityLayerReport[];
  readonly dropless: CapacityMeasurement | undefined;
  readonly seed: number | undefined;
}

function describe(name: string, { result, layers, dropless, seed = 0 }: Measured): CapacityMeasurement {
  const mean = (of: (layer: CapacityLayerReport) => number): number =>
    layers.reduce((sum, layer) => sum + of(layer), 0) / layers.length;
  const seconds = layers.reduce((sum, layer) => sum + (layer.seconds ?? NaN), 0);
  const before = dropless === undefined ? seconds : (dropless.layerSeconds ?? NaN);
  const timed = Number.isFinite(seconds);
  return {
    ...result,
    name,
    difference: differenceInLoss((dropless ?? result).byDocument, result.byDocument, { seed }),
    dropRatio: mean((layer) => layer.dropRatio),
    addedRatio: mean((layer) => layer.addedRatio),
    orphanRatio: mean((layer) => layer.orphans / layer.tokens),
    peak: mean((layer) => layer.peak),
    layerSeconds: timed ? seconds : null,
    speedUp: timed && seconds > 0 ? before / seconds : null,
    layers,
  };
}

function policyOf(capacity: CapacityConfig | CapacityPolicy): CapacityPolicy {
  return 'method' in capacity ? capacityPolicy(capacity) : capacity;
}

/** Everything that can be known before the first batch. */
function assertSettings(model: DecoderModel, settings: readonly CapacitySetting[]): void {
  if (model.parts.routers.every((router) => router === null)) {
    throw new MoebiusError({
      code: 'configuration',
      message: 'capacity: model must have a sparse layer, got a dense model (there are no experts to cap)',
    });
  }
  const names = ['dropless', ...settings.map(({ name }) => name)];
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) {
    throw new MoebiusError({
      code: 'configuration',
      message: `capacity settings: must have names of their own, got "${twice}" twice (dropless is always measured)`,
      details: { name: twice },
    });
  }
  for (const { capacity } of settings) capModel(model, policyOf(capacity)).dispose();
}
