/**
 * @file The slow oracles of layers whose route is no list of pairs: sums of single numbers on the host, and experts run one row at
 * a time.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `S` slots, `G` groups.
 */
import { disposeTree, tensor } from '@moebius/tensor';

import { valuesOf } from './checks.ts';
import { runPair } from './layer-oracle.ts';
import type { ExpertKind, ExpertParameters } from '../define-expert.ts';

/** A layer on the host. */
export interface HostLayer {
  /** float32 `[T, D]`. */
  readonly hidden: Float32Array;
  /** Model width `D`. */
  readonly modelWidth: number;
  /** `[E]`. */
  readonly kinds: readonly ExpertKind[];
  /** `[E]`, borrowed. */
  readonly parameters: readonly ExpertParameters[];
}

/** What an oracle found. */
export interface RouteOracleResult {
  /** `[T, D]`. */
  readonly y: Float64Array;
  /** `[T, D]`. */
  readonly dhidden: Float64Array;
  /** Of the route's tensors, in the order of `listGradients`. */
  readonly droute: readonly Float64Array[];
  /** `[E]` by part. */
  readonly dexperts: readonly Record<string, Float64Array>[];
}

/**
 * Forward and backward of a layer of slots.
 *
 * @param layer - host arrays and borrowed parameters
 * @param route - dispatch and combine, `[T, S]` each
 * @param dy - `[T, D]`, gradient of y
 */
export function slotsOracle(
  layer: HostLayer,
  route: { readonly dispatch: Float32Array; readonly combine: Float32Array },
  dy: Float32Array,
): RouteOracleResult {
  const { hidden, modelWidth: width, kinds, parameters } = layer;
  const { dispatch, combine } = route;
  const tokens = hidden.length / width;
  const slots = dispatch.length / tokens;
  const y = new Float64Array(hidden.length);
  const dhidden = new Float64Array(hidden.length);
  const ddispatch = new Float64Array(dispatch.length);
  const dcombine = new Float64Array(combine.length);
  const dexperts = zeroParts(parameters);
  const cells = Array.from({ length: tokens * width }, (_, i) => [Math.floor(i / width), i % width] as const);
  for (let s = 0; s < slots; s += 1) {
    const expert = Math.floor(s / (slots / kinds.length));
    const row = new Float32Array(width);
    const dout = new Float32Array(width);
    for (const [t, d] of cells) {
      row[d]! += dispatch[t * slots + s]! * hidden[t * width + d]!;
      dout[d]! += combine[t * slots + s]! * dy[t * width + d]!;
    }
    const { out, drow, dparts } = runPair(kinds[expert]!, parameters[expert]!, { row, dout });
    for (const [t, d] of cells) {
      const [at, cell] = [t * slots + s, t * width + d];
      y[cell]! += combine[at]! * out[d]!;
      dhidden[cell]! += dispatch[at]! * drow[d]!;
      dcombine[at]! += out[d]! * dy[cell]!;
      ddispatch[at]! += drow[d]! * hidden[cell]!;
    }
    addParts(dexperts[expert]!, dparts, 1);
  }
  return { y, dhidden, droute: [ddispatch, dcombine], dexperts };
}

/**
 * Forward and backward of a layer of merged experts.
 *
 * @param layer - host arrays and borrowed parameters; experts of one kind and shape
 * @param route - mix `[G, E]`, and the group of each token, -1 for none
 * @param dy - `[T, D]`, gradient of y
 */
export function mergeOracle(
  layer: HostLayer,
  route: { readonly mix: Float32Array; readonly group: Int32Array },
  dy: Float32Array,
): RouteOracleResult {
  const { hidden, modelWidth: width, kinds, parameters } = layer;
  const { mix, group } = route;
  const experts = kinds.length;
  const y = new Float64Array(hidden.length);
  const dhidden = new Float64Array(hidden.length);
  const dmix = new Float64Array(mix.length);
  const dexperts = zeroParts(parameters);
  const host = parameters.map((own) => mapParts(own, (value) => valuesOf(value)));
  for (const [t, g] of group.entries()) {
    if (g < 0) continue;
    const shares = mix.subarray(g * experts, (g + 1) * experts);
    const merged = mapParts(parameters[0]!, ({ shape }, part) =>
      tensor(
        host[0]![part]!.map((_, i) => host.reduce((sum, own, e) => sum + shares[e]! * own[part]![i]!, 0)),
        shape,
      ),
    );
    const [row, dout] = [hidden, dy].map((values) => values.slice(t * width, (t + 1) * width));
    const { out, drow, dparts } = runPair(kinds[0]!, merged, { row: row!, dout: dout! });
    disposeTree(merged);
    y.set(out, t * width);
    dhidden.set(drow, t * width);
    for (const [e, share] of shares.entries()) {
      addParts(dexperts[e]!, dparts, share);
      for (const [part, values] of Object.entries(dparts))
        for (const [i, value] of values.entries()) dmix[g * experts + e]! += value * host[e]![part]![i]!;
    }
  }
  return { y, dhidden, droute: [dmix], dexperts };
}

function mapParts<R, V>(
  parts: { readonly [part: string]: V },
  of: (value: V, part: string) => R,
): Record<string, R> {
  return Object.fromEntries(Object.entries(parts).map(([part, value]) => [part, of(value, part)]));
}

function zeroParts(parameters: readonly ExpertParameters[]): Record<string, Float64Array>[] {
  return parameters.map((own) => mapParts(own, ({ size }) => new Float64Array(size)));
}

function addParts(
  total: Record<string, Float64Array>,
  parts: Record<string, Float32Array>,
  share: number,
): void {
  for (const [part, values] of Object.entries(parts))
    for (const [i, value] of values.entries()) total[part]![i]! += share * value;
}
