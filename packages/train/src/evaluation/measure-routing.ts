/** @file What the gates of a model do on a text: loads, balance, and how sure they are, layer by layer. */
import { setImmediate as nextTurn } from 'node:timers/promises';

import { runAsync, throwIfAborted } from '@moebius/core';
import type { DecoderModel } from '@moebius/model';
import type { GateObservation } from '@moebius/routing';
import { disposeTree, readHostSync } from '@moebius/tensor';

import type { TokenShard } from '../data/token-shard.ts';
import { describeLoad } from '../trainer/layer-load.ts';
import type { LayerLoad } from '../trainer/events.ts';
import { assertUsable } from './evaluate.ts';
import { addRoutingSumsInto } from './routing-sums.kernel.ts';
import type { RoutingSums } from './routing-sums.kernel.ts';

/** The gate of one layer. `entropy` is that of the loads. */
export interface LayerRoutingReport extends LayerLoad {
  /** Mean weight of a token's first choice. */
  readonly topWeight: number;
  /** Mean entropy of a token's scores over all experts: 0 is sure, 1 is even. */
  readonly gateEntropy: number;
}

/** The gates of a model on a text. */
export interface RoutingReport {
  /** Tokens that went through. */
  readonly tokens: number;
  /** Sparse layers, first to last; empty for a dense model. */
  readonly layers: readonly LayerRoutingReport[];
}

/** How to measure. */
export interface MeasureRoutingOptions {
  /** Tokens of a window, S. Default 256. */
  readonly length?: number;
  /** Windows of a batch, B. Default 8. */
  readonly sequences?: number;
  /** About this many tokens, in windows spread evenly over the text. Default all. */
  readonly maximumTokens?: number;
  /** Stops between two batches. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a text through a model and looks at its gates. There is no padding: every token counts once.
 *
 * @param model - borrowed
 * @param shard - of a tokenizer whose ids the model knows
 * @throws `data` when the text is empty or its vocabulary larger than the model's, `aborted` by the signal
 */
export async function measureRouting(
  model: DecoderModel,
  shard: TokenShard,
  options: MeasureRoutingOptions = {},
): Promise<RoutingReport> {
  const { length = 256, sequences = 8, maximumTokens = Infinity, signal } = options;
  assertUsable(model, shard, shard.tokens.length);
  const layers = new Map<number, RoutingSums>();
  const observe = (layer: number, observation: GateObservation): void => {
    const { plan, scores, config } = observation;
    const sums = layers.get(layer) ?? emptySums(plan.experts);
    layers.set(layer, sums);
    const host = readHostSync(scores) as Float32Array;
    addRoutingSumsInto(sums, plan, { scores: host, renormalise: config.renormalise ?? false });
  };
  let tokens = 0;
  for (const { ids, batch } of batchesOf(shard.tokens, { length, sequences, maximumTokens })) {
    throwIfAborted(signal, 'inspection');
    const { hidden, saved } = await runAsync(model.forward({ ids, batch }, { observe }));
    disposeTree([hidden, saved]);
    tokens += ids.length;
    await nextTurn();
  }
  const sorted = [...layers].toSorted(([left], [right]) => left - right);
  return { tokens, layers: sorted.map(([layer, sums]) => describeSums(layer, sums)) };
}

function emptySums(experts: number): RoutingSums {
  return { load: new Float64Array(experts), tokens: 0, topWeight: 0, entropy: 0 };
}

function describeSums(layer: number, sums: RoutingSums): LayerRoutingReport {
  return {
    ...describeLoad(layer, Array.from(sums.load)),
    topWeight: sums.topWeight / sums.tokens,
    gateEntropy: sums.entropy / sums.tokens,
  };
}

interface Cutting {
  readonly length: number;
  readonly sequences: number;
  readonly maximumTokens: number;
}

/** Windows of one length, several at once; what is left at the end of the text is a window of its own. */
function* batchesOf(
  tokens: Uint16Array | Int32Array,
  { length, sequences, maximumTokens }: Cutting,
): Generator<{ readonly ids: Int32Array; readonly batch: number }> {
  const whole = Math.floor(tokens.length / length);
  const wanted = Math.max(1, Math.min(whole, Math.floor(maximumTokens / length)));
  const starts = Array.from({ length: Math.min(wanted, whole) }, (_, index) =>
    wanted === whole ? index * length : Math.floor(((index + 0.5) * whole) / wanted) * length,
  );
  for (let first = 0; first < starts.length; first += sequences) {
    const chosen = starts.slice(first, first + sequences);
    const ids = new Int32Array(chosen.length * length);
    for (const [row, start] of chosen.entries())
      ids.set(tokens.subarray(start, start + length), row * length);
    yield { ids, batch: chosen.length };
  }
  const rest = tokens.length - whole * length;
  if (rest > 0 && wanted >= whole) yield { ids: Int32Array.from(tokens.subarray(whole * length)), batch: 1 };
}
