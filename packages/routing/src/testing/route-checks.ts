/**
 * @file What the kits ask of routes of every kind: shapes, sums of shares, padding left out, the past unmoved by the future.
 *
 * Letters: `T` tokens, `E` experts, `S` slots, `G` groups.
 */
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

import { check, checkClose, checkSame, valuesOf } from './checks.ts';
import { assertPlan } from '../dispatch-plan.ts';
import type { RouteGradients } from '../expert-executor.ts';
import type { MergeRoute, Route, SlotsRoute } from '../route.ts';

/** Holds two routes to the same bytes. */
export function checkSameRoute(got: Route, wanted: Route, subject: string): void {
  check(got.kind === wanted.kind, `route of ${subject}: must be of kind ${wanted.kind}, got ${got.kind}`);
  for (const [i, entry] of routeTensors(wanted).entries())
    checkSame(valuesOf(routeTensors(got)[i]!), valuesOf(entry), `route tensor ${i} of ${subject}`);
  if (got.kind === 'pairs' && wanted.kind === 'pairs')
    checkSame(got.plan.source, wanted.plan.source, `plan of ${subject}`);
}

/** Holds two routes to the same integers and near numbers. */
export function checkNear(got: Route, wanted: Route, subject: string): void {
  check(got.kind === wanted.kind, `${subject}: must be of kind ${wanted.kind}, got ${got.kind}`);
  if (got.kind === 'pairs' && wanted.kind === 'pairs')
    checkSame(got.plan.source, wanted.plan.source, `plan of ${subject}`);
  for (const [i, entry] of routeTensors(wanted).entries())
    checkClose(valuesOf(routeTensors(got)[i]!), valuesOf(entry), `route tensor ${i} of ${subject}`);
}

/** The tensors of a route, in the order of `listGradients`. */
export function routeTensors(route: Route): Tensor[] {
  if (route.kind === 'pairs') return [route.weights];
  return route.kind === 'slots' ? [route.dispatch, route.combine] : [route.mix];
}

/** What a route is checked against. */
export interface RouteSizes {
  /** `T`. */
  readonly tokens: number;
  /** `E`. */
  readonly experts: number;
  /** Uint8Array `[T]`, 0 is padding. */
  readonly mask?: Uint8Array | undefined;
}

/** Holds a route to its form: sizes, finite numbers, shares that sum to 1, nothing for padding. */
export function checkRoute(route: Route, sizes: RouteSizes): void {
  for (const values of routeTensors(route).map(valuesOf)) {
    check(
      values.every((value) => Number.isFinite(value)),
      'route tensors: must be finite',
    );
  }
  if (route.kind === 'slots') return checkSlots(route, sizes);
  if (route.kind === 'merge') return checkMerge(route, sizes);
  const { tokens, experts, mask } = sizes;
  assertPlan(route.plan);
  check(route.plan.tokens === tokens, `plan.tokens: must be ${tokens}, got ${route.plan.tokens}`);
  check(route.plan.experts === experts, `plan.experts: must be ${experts}, got ${route.plan.experts}`);
  check(
    route.weights.size === route.plan.token.length,
    `weights: must have ${route.plan.token.length} entries, got ${route.weights.size}`,
  );
  for (const token of route.plan.token)
    check(mask === undefined || mask[token] !== 0, `token ${token}: is masked, must have no pair`);
}

function checkSlots({ dispatch, combine }: SlotsRoute, { tokens, experts, mask }: RouteSizes): void {
  const slots = dispatch.shape[1];
  for (const [name, { shape }] of Object.entries({ dispatch, combine }))
    check(
      shape.length === 2 && shape[0] === tokens && shape[1] === slots && slots % experts === 0,
      `${name}: must be [${tokens}, a multiple of ${experts}], got [${shape}]`,
    );
  const [given, taken] = [dispatch, combine].map(valuesOf) as [Float32Array, Float32Array];
  const column = (s: number): number[] => Array.from({ length: tokens }, (_, t) => given[t * slots + s]!);
  for (let t = 0; t < tokens; t += 1) {
    const isIn = mask === undefined || mask[t] !== 0;
    const row = taken.subarray(t * slots, (t + 1) * slots);
    checkClose([total(row)], [isIn ? 1 : 0], `sum of combine row ${t}${isIn ? '' : ' (masked)'}`);
    const shares = given.subarray(t * slots, (t + 1) * slots);
    check(isIn || shares.every((share) => share === 0), `dispatch row ${t}: is masked, must be 0`);
  }
  const isEmpty = mask?.every((entry) => entry === 0) === true;
  for (let s = 0; s < slots; s += 1)
    checkClose([total(column(s))], [isEmpty ? 0 : 1], `sum of dispatch column ${s}`);
}

function checkMerge({ mix, group }: MergeRoute, { tokens, experts, mask }: RouteSizes): void {
  const [groups, columns] = mix.shape;
  check(columns === experts, `mix: must be [*, ${experts}], got [${mix.shape}]`);
  check(group.length === tokens, `group: must have ${tokens} entries, got ${group.length}`);
  const shares = valuesOf(mix);
  for (let g = 0; g < groups; g += 1)
    checkClose([total(shares.subarray(g * experts, (g + 1) * experts))], [1], `sum of mix row ${g}`);
  for (const [t, g] of group.entries()) {
    if (mask?.[t] === 0) check(g === -1, `group of token ${t}: is masked, must be -1, got ${g}`);
    else check(g >= 0 && g < groups, `group of token ${t}: must be in 0…${groups - 1}, got ${g}`);
  }
}

function total(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

type Pairs = Extract<Route, { kind: 'pairs' }>;

/** Weights of a route of pairs by `source`. */
function weightsBySource(route: Pairs): Map<number, number> {
  const weights = valuesOf(route.weights);
  return new Map([...route.plan.source].map((source, n) => [source, weights[n]!]));
}

/** Tokens that are not masked are routed as if nobody were masked. */
export function checkUnmoved(whole: Pairs, masked: Pairs, mask: Uint8Array): void {
  const [all, some] = [weightsBySource(whole), weightsBySource(masked)];
  for (const [source, weight] of all) {
    const token = Math.floor(source / whole.plan.experts);
    if (mask[token] === 0) continue;
    check(some.has(source), `token ${token}: must keep its experts when others are masked`);
    checkClose([some.get(source) ?? NaN], [weight], `weight of token ${token} when others are masked`, {
      relative: 1e-5,
      absolute: 1e-6,
    });
  }
}

/** What a route says of the tokens before `end`, as numbers that can be compared. */
export function pastOf(route: Route, end: number): number[] {
  if (route.kind === 'pairs') {
    const entries = [...weightsBySource(route)].filter(
      ([source]) => Math.floor(source / route.plan.experts) < end,
    );
    return entries.toSorted(([left], [right]) => left - right).flat();
  }
  if (route.kind === 'slots')
    return [route.dispatch, route.combine].flatMap((entry) => [
      ...valuesOf(entry).subarray(0, end * entry.shape[1]!),
    ]);
  const [, experts] = route.mix.shape;
  const mix = valuesOf(route.mix);
  return [...route.group.subarray(0, end)].flatMap((g) =>
    g < 0 ? [] : [...mix.subarray(g * experts, (g + 1) * experts)],
  );
}

/** Whether two routes have the same integers, so that their numbers can be compared. */
export function samePlan(left: Route, right: Route): boolean {
  if (left.kind === 'pairs' && right.kind === 'pairs')
    return String(left.plan.source) === String(right.plan.source);
  if (left.kind === 'merge' && right.kind === 'merge') return String(left.group) === String(right.group);
  return left.kind === right.kind;
}

/** Gradients of a route; `upstream` holds float32 `[N]`, `[T, S]` twice or `[G, E]`, in the order of {@link routeTensors}. Borrowed. */
export function routeGradients(route: Route, upstream: readonly Tensor[]): RouteGradients {
  const [first, second] = upstream;
  if (route.kind === 'pairs') return { kind: 'pairs', weights: first as Tensor1D };
  if (route.kind === 'slots')
    return { kind: 'slots', dispatch: first as Tensor2D, combine: second as Tensor2D };
  return { kind: 'merge', mix: first as Tensor2D };
}
