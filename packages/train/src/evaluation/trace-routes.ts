/** @file Which token went to which expert, for a text: one pass of a model with its routers watched. */
import { runAsync, throwIfAborted } from '@moebius/core';
import { capRouters } from '@moebius/model';
import type { DecoderModel } from '@moebius/model';
import { capacityPolicy } from '@moebius/routing';
import type { CapacityConfig, CapacityPolicy } from '@moebius/routing';
import { createRouteRecorder, recordRoutes } from '@moebius/routing/metrics';
import type { RouteTrace } from '@moebius/routing/metrics';
import { disposeTree } from '@moebius/tensor';

import type { TokenShard } from '../data/token-shard.ts';
import { assertUsable } from './evaluate.ts';

/** What to trace. */
export interface TraceRoutesOptions {
  /** Tokens of a window, S. Default 256. */
  readonly length?: number;
  /** At most so many tokens, from the first: whole windows, or one shorter one. Default 512. */
  readonly maximumTokens?: number;
  /** Cap the load of experts. Default: nothing is capped. */
  readonly capacity?: CapacityConfig | CapacityPolicy | undefined;
  /** Goes into the trace, as `{ model: 'study' }`. */
  readonly about?: { readonly [name: string]: string };
  /** Stops before the pass. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs the beginning of a text through a model in one pass and tells what each router decided. The model stays as it is.
 *
 * @param model - borrowed
 * @param shard - of a tokenizer whose ids the model knows
 * @param options - how much, and under which capacity
 * @returns a trace of one pass; `traceToLines` of `@moebius/routing/metrics` writes it, `drawLoadText` draws its plans
 * @throws `configuration` when a router gives no pairs or the capacity does not fit, `data` when the text is empty or its vocabulary larger
 *   than the model's, `limit` when the trace would be too large, `aborted` by the signal
 */
export async function traceRoutes(
  model: DecoderModel,
  shard: TokenShard,
  options: TraceRoutesOptions = {},
): Promise<RouteTrace> {
  const { length = 256, maximumTokens = 512, capacity, about = {}, signal } = options;
  assertUsable(model, shard, shard.tokens.length);
  throwIfAborted(signal, 'trace');
  const tokens = Math.min(maximumTokens, shard.tokens.length);
  const batch = Math.max(1, Math.floor(tokens / length));
  const ids = Int32Array.from(shard.tokens.subarray(0, Math.min(tokens, batch * length)));
  const recorder = createRouteRecorder({ about });
  const cap = capacity === undefined ? undefined : capRouters(policyOf(capacity));
  const watched = model.aroundRouters((router, layer) =>
    recordRoutes(cap === undefined ? router : cap(router, layer), recorder),
  );
  try {
    const { hidden, saved } = await runAsync(watched.forward({ ids, batch }));
    disposeTree([hidden, saved]);
    return recorder.trace();
  } finally {
    watched.dispose();
  }
}

function policyOf(capacity: CapacityConfig | CapacityPolicy): CapacityPolicy {
  return 'method' in capacity ? capacityPolicy(capacity) : capacity;
}
