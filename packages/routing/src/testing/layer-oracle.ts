/**
 * @file The slow oracle of a routed layer: one pair at a time, one row at a time, sums in float64 on the host. It walks tokens
 * and `source` only, never the CSR lists that it judges.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `N` routed pairs.
 */
import { disposeTree, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { valuesOf } from './checks.ts';
import type { ExpertKind, ExpertParameters } from '../define-expert.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';

/** A routed layer on the host. */
export interface OracleLayer {
  /** float32 `[T, D]`. */
  readonly hidden: Float32Array;
  /** Model width `D`. */
  readonly modelWidth: number;
  /** The plan. */
  readonly plan: DispatchPlan;
  /** float32 `[N]`. */
  readonly weights: Float32Array;
  /** `[E]`. */
  readonly kinds: readonly ExpertKind[];
  /** `[E]`, borrowed. */
  readonly parameters: readonly ExpertParameters[];
}

/** What the oracle found. */
export interface OracleResult {
  /** `[T, D]`. */
  readonly y: Float64Array;
  /** `[T, D]`. */
  readonly dhidden: Float64Array;
  /** `[N]`. */
  readonly dweights: Float64Array;
  /** `[E]` by part. */
  readonly dexperts: readonly Record<string, Float64Array>[];
}

/**
 * Forward and backward of a routed layer.
 *
 * @param layer - host arrays and borrowed parameters
 * @param dy - `[T, D]`, gradient of y
 */
export function layerOracle(layer: OracleLayer, dy: Float32Array): OracleResult {
  const { hidden, modelWidth: width, plan, weights, kinds, parameters } = layer;
  const y = new Float64Array(hidden.length);
  const dhidden = new Float64Array(hidden.length);
  const dweights = new Float64Array(plan.source.length);
  const dexperts = parameters.map((parts, e) =>
    Object.fromEntries(
      Object.keys(kinds[e]!.parts).map((part) => [part, new Float64Array(parts[part]!.size)]),
    ),
  );
  for (let n = 0; n < plan.source.length; n += 1) {
    const t = Math.floor(plan.source[n]! / plan.experts);
    const e = plan.source[n]! % plan.experts;
    const row = hidden.slice(t * width, (t + 1) * width);
    const dout = dy.slice(t * width, (t + 1) * width);
    const pair = runPair(kinds[e]!, parameters[e]!, { row, dout: dout.map((value) => value * weights[n]!) });
    for (let d = 0; d < width; d += 1) {
      y[t * width + d]! += weights[n]! * pair.out[d]!;
      dhidden[t * width + d]! += pair.drow[d]!;
      dweights[n]! += pair.out[d]! * dout[d]!;
    }
    for (const [part, values] of Object.entries(pair.dparts)) {
      const total = dexperts[e]![part]!;
      for (let i = 0; i < values.length; i += 1) total[i]! += values[i]!;
    }
  }
  return { y, dhidden, dweights, dexperts };
}

/** One expert on one row. */
export interface PairRun {
  /** `[D]`. */
  readonly out: Float32Array;
  /** `[D]`, gradient of the row. */
  readonly drow: Float32Array;
  /** Gradient of every part. */
  readonly dparts: Record<string, Float32Array>;
}

/**
 * One expert on one row, both passes.
 *
 * @param kind - of the expert
 * @param parameters - borrowed
 * @param rows - the row `[D]` and the gradient of its output `[D]`
 */
export function runPair(
  kind: ExpertKind,
  parameters: ExpertParameters,
  rows: { readonly row: Float32Array; readonly dout: Float32Array },
): PairRun {
  const x: Tensor2D = tensor2d(rows.row, [1, rows.row.length]);
  const dy: Tensor2D = tensor2d(rows.dout, [1, rows.dout.length]);
  const { value, saved } = kind.forward(x, parameters);
  const { dx, parameters: dparts } = kind.backward(saved, dy);
  const result = {
    out: valuesOf(value),
    drow: valuesOf(dx),
    dparts: Object.fromEntries(Object.entries(dparts).map(([part, gradient]) => [part, valuesOf(gradient)])),
  };
  disposeTree([x, dy, value, saved, dx, dparts]);
  return result;
}
