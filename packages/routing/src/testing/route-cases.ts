/**
 * @file Routes of slots and of groups for the kits: padding, one token, several slots of an expert, groups without tokens.
 *
 * Letters: `T` tokens, `E` experts, `S` slots, `G` groups.
 */
import type { Rng } from '@moebius/core';
import { tensor2d } from '@moebius/tensor';

import { kitRng, randomValues } from './checks.ts';
import { mergeOracle, slotsOracle } from './route-oracles.ts';
import type { HostLayer, RouteOracleResult } from './route-oracles.ts';
import { gatedExpert, identityExpert, plainExpert } from '../expert-kinds.ts';
import { loraExpert } from '../experts/lora-expert.ts';
import type { ExpertKind } from '../define-expert.ts';
import type { Route } from '../route.ts';

/** A route with its oracle. */
export interface RouteCase {
  /** For test titles. */
  readonly title: string;
  /** `T`. */
  readonly tokens: number;
  /** The route; the caller owns its tensors. */
  readonly createRoute: () => Route;
  /** Both passes of a layer with this route. */
  readonly oracle: (layer: HostLayer, dy: Float32Array) => RouteOracleResult;
}

/** A list of kinds with a title. */
export interface NamedLayer {
  /** For test titles. */
  readonly title: string;
  /** `[E]`. */
  readonly kinds: readonly ExpertKind[];
}

/** Layers whose experts can be merged. */
export function mergeLayers(): NamedLayer[] {
  const kinds = [
    gatedExpert(),
    plainExpert({ activation: 'relu', bias: true }),
    identityExpert(),
    loraExpert({ rank: 2, alpha: 3 }),
  ];
  return kinds.map((kind) => ({ title: `merged ${kind.name} experts`, kinds: [kind, kind, kind, kind] }));
}

/**
 * Routes of kind `slots`.
 *
 * @param experts - `E`
 */
export function slotsCases(experts: number): RouteCase[] {
  const sizes = [
    { title: 'one slot an expert', tokens: 7, each: 1, padding: -1 },
    { title: 'three slots an expert', tokens: 5, each: 3, padding: -1 },
    { title: 'a padded token', tokens: 6, each: 2, padding: 4 },
    { title: 'one token', tokens: 1, each: 2, padding: -1 },
  ];
  return sizes.map(({ title, tokens, each, padding }) => {
    const rng = kitRng(`slots ${title}`);
    const slots = experts * each;
    const isIn = (t: number): boolean => t !== padding;
    const combine = shares(rng.fork('combine'), tokens, slots).map((share, i) =>
      isIn(Math.floor(i / slots)) ? share : 0,
    );
    const dispatch = transposed(
      shares(rng.fork('dispatch'), slots, tokens, (_, t) => isIn(t)),
      slots,
      tokens,
    );
    return {
      title,
      tokens,
      createRoute: () => ({
        kind: 'slots',
        dispatch: tensor2d(dispatch.slice(), [tokens, slots]),
        combine: tensor2d(combine.slice(), [tokens, slots]),
      }),
      oracle: (layer, dy) => slotsOracle(layer, { dispatch, combine }, dy),
    };
  });
}

/**
 * Routes of kind `merge`.
 *
 * @param experts - `E`
 */
export function mergeCases(experts: number): RouteCase[] {
  const groups = {
    'one group': [0, 0, 0, 0],
    'groups one after another': [0, 0, 1, 1, 2, 2],
    'tokens of no group': [1, -1, 0, 0, -1, 1],
    'a group without tokens': [0, 2, 2, 0],
    'a group for each token, in another order': [3, 1, 0, 2],
    'no token in a group': [-1, -1],
  };
  return Object.entries(groups).map(([title, list]) => {
    const group = Int32Array.from(list);
    const rows = Math.max(1, ...list.map((g) => g + 1));
    const mix = shares(kitRng(`merge ${title}`), rows, experts);
    return {
      title,
      tokens: group.length,
      createRoute: () => ({
        kind: 'merge',
        mix: tensor2d(mix.slice(), [rows, experts]),
        group: group.slice(),
      }),
      oracle: (layer, dy) => mergeOracle(layer, { mix, group }, dy),
    };
  });
}

/** Rows of positive numbers that sum to 1 over the cells that are in. */
function shares(
  rng: Rng,
  rows: number,
  columns: number,
  isIn: (row: number, column: number) => boolean = () => true,
): Float32Array {
  const values = randomValues(rng, rows * columns).map((value, i) =>
    isIn(Math.floor(i / columns), i % columns) ? Math.exp(value) : 0,
  );
  return values.map((value, i) => {
    const row = Math.floor(i / columns);
    return value / values.slice(row * columns, (row + 1) * columns).reduce((a, b) => a + b, 0);
  });
}

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!);
}
