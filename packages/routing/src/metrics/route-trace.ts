/**
 * @file Route traces in memory: which token went to which expert, with which weight, pass by pass and layer by layer.
 *
 * A trace is plain data. A recorder fills one while a model runs (`recordRoutes` puts it behind a router), `traceToLines` and
 * `traceFromLines` move it to a file and back, `replayRoutes` routes by it again.
 *
 * Letters: `T` tokens, `N` routed pairs.
 */
import { MoebiusError } from '@moebius/core';

import type { DispatchPlan } from '../dispatch-plan.ts';
import type { RouterPhase } from '../token-context.ts';
import { traceLimits } from './trace-limits.ts';

/** What one layer decided in one pass. */
export interface LayerTrace {
  /** Layer index in the model. */
  readonly layer: number;
  /** Who went where, after any capacity policy; `plan.stats.capacity` says what that did. */
  readonly plan: DispatchPlan;
  /** Float32Array `[N]`, weight of each pair in plan order; null where it was not recorded. */
  readonly weights: Float32Array | null;
}

/** One forward pass over a batch of tokens. */
export interface TracePass {
  /** Step of training or generation; the number of the pass where nobody said one. */
  readonly step: number;
  /** Which pass this was. */
  readonly phase?: RouterPhase;
  /** Sequences of equal length that the tokens are. */
  readonly sequences?: number;
  /** Int32Array `[T]`, token ids, where the router was told them. */
  readonly ids?: Int32Array;
  /** In the order in which they ran; each layer once. */
  readonly layers: readonly LayerTrace[];
}

/** Passes in the order in which they ran. */
export interface RouteTrace {
  /** Whatever the reader should know, as `{ model: 'study' }`. */
  readonly about: { readonly [name: string]: string };
  /** First to last. */
  readonly passes: readonly TracePass[];
}

/** One layer's decision, with what is known of its pass. */
export type RecordedRoute = Omit<TracePass, 'layers' | 'step'> & LayerTrace & { readonly step?: number };

/** Fills a trace. */
export interface RouteRecorder {
  /**
   * Adds one layer. A new pass begins when the layer is already in the current one, or when the step is another.
   *
   * @param route - the plan is kept (plans are never written again); weights and ids are copied
   * @throws `limit` when the trace would hold more than `maximumPairs`
   */
  record(route: RecordedRoute): void;
  /** What was recorded so far; later records do not change it. */
  trace(): RouteTrace;
}

/** Settings of {@link createRouteRecorder}. */
export interface RouteRecorderOptions {
  /** Goes into the trace. Default nothing. */
  readonly about?: { readonly [name: string]: string };
  /** Pairs that the trace may hold before recording is refused. Default `traceLimits.pairs`. */
  readonly maximumPairs?: number;
}

/** A pass that is being filled. */
interface OpenPass extends TracePass {
  readonly layers: LayerTrace[];
}

/**
 * An empty recorder.
 *
 * @param options - what the trace is about, how large it may become
 * @example
 * ```ts
 * const recorder = createRouteRecorder({ about: { model: 'study' } });
 * const plan = planTopK(Int32Array.of(1, 0), { tokens: 2, experts: 2, topK: 1 });
 * recorder.record({ layer: 0, plan, weights: Float32Array.of(0.5, 0.75) });
 * recorder.trace().passes.length; // 1
 * ```
 */
export function createRouteRecorder(options: RouteRecorderOptions = {}): RouteRecorder {
  const { about = {}, maximumPairs = traceLimits.pairs } = options;
  const passes: OpenPass[] = [];
  let pairs = 0;
  return {
    record(route) {
      const { layer, plan, weights } = route;
      pairs += plan.token.length;
      if (pairs > maximumPairs) throw tooLarge(pairs, maximumPairs);
      const current = passes.at(-1);
      const pass = current === undefined || begins(route, current) ? openPass(route, passes.length) : current;
      if (pass !== current) passes.push(pass);
      pass.layers.push({ layer, plan, weights: weights === null ? null : weights.slice() });
    },
    trace: () => ({
      about: { ...about },
      passes: passes.map((pass) => ({ ...pass, layers: [...pass.layers] })),
    }),
  };
}

function begins({ layer, step }: RecordedRoute, current: TracePass): boolean {
  return (
    (step !== undefined && step !== current.step) || current.layers.some((entry) => entry.layer === layer)
  );
}

function openPass({ step, phase, sequences, ids }: RecordedRoute, number: number): OpenPass {
  return {
    step: step ?? number,
    ...(phase === undefined ? {} : { phase }),
    ...(sequences === undefined ? {} : { sequences }),
    ...(ids === undefined ? {} : { ids: ids.slice() }),
    layers: [],
  };
}

function tooLarge(pairs: number, maximumPairs: number): MoebiusError {
  return new MoebiusError({
    code: 'limit',
    message: `route trace: must hold at most ${maximumPairs} pairs, got ${pairs} (record fewer passes or layers, or raise maximumPairs)`,
    details: { pairs, maximumPairs },
  });
}
