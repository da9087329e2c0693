/**
 * @file Gates that do not choose experts but average them: one softmax for each group of tokens, whose shares the executor merges
 * the parameters of the experts by. The families differ in the groups and in which rows a group's gate reads.
 *
 * ```
 * x_TD ─pool─► rows_GD ─(norm)─ W ─► logits_GE ─softmax over those kept─► mix_GE      token t runs in group[t]
 * ```
 * Letters: `T` tokens, `D` model width, `E` experts, `G` groups.
 */
import { MoebiusError } from '@moebius/core';
import {
  add,
  addN,
  cloneTensor,
  fromTfjs,
  matMul,
  mean,
  mul,
  readHostSync,
  rsqrt,
  runOp,
  square,
  sub,
  tensor2d,
  where,
} from '@moebius/tensor';
import type { Tensor, Tensor2D, TfjsPair, TfjsSaved } from '@moebius/tensor';

import { defineRouter } from '../define-router.ts';
import type { Router, RouterGradients, RouterOptions, RouterOutput } from '../define-router.ts';
import type { RouterUpstream } from '../define-router.ts';
import { firstNotFinite } from '../finite.kernel.ts';
import { addPresent, scoreForward, softmaxBackward } from '../score-function.ts';
import { assertRows, poolMatrix, spreadMatrix } from './token-groups.ts';
import type { TokenGroups } from './token-groups.ts';

/** Groups, and what the gate of each reads. */
export interface MergeGroups extends TokenGroups {
  /** Int32Arrays `[T]`, the group whose gate reads each token, -1 for none; no group in two lists. Default: the token's own. */
  readonly readBy?: readonly Int32Array[];
  /** Float32Array `[G]`, what the gradient of each group's mix is multiplied by. Default 1. */
  readonly gradient?: Float32Array;
}

/** A family of merging gates. */
export interface MergeGate {
  /** Of the router. */
  readonly name: string;
  /** `E`. */
  readonly experts: number;
  /** Experts that are merged. */
  readonly topK: number;
  /** See `Router.causal`. */
  readonly causal: boolean;
  /** Rows are brought to mean 0 and variance 1 before the matrix; scale and shift of a layer norm are part of the matrix. */
  readonly normalise: boolean;
  /** Groups of a batch. */
  readonly groups: (tokens: number, options: RouterOptions) => MergeGroups;
  /** Uint8Array `[G, E]` of the experts that are merged, at least one a row, from the logits `[G, E]`; null keeps all. */
  readonly keep?: (logits: ArrayLike<number>, options: RouterOptions) => Uint8Array | null;
}

/**
 * A router of `merge` routes. Trained: `weight` `[E, D]`. `logits` and `scores` of a token are those of its group, zeros for padding.
 *
 * @param gate - the family
 */
export function mergeRouter(gate: MergeGate): Router {
  const { name, experts, topK, causal } = gate;
  const pair = groupLogits(gate.normalise, name);
  return defineRouter({
    name,
    experts,
    topK,
    causal,
    route: 'merge',
    trusted: true,
    parameterShapes: (modelWidth) => ({ weight: [experts, modelWidth] }),
    bufferShapes: () => ({}),
    forward: (x, parameters, options) =>
      runOp(name, () => forward({ gate, pair }, { x, weight: parameters['weight'] as Tensor2D, options })),
    backward: (saved, upstream) =>
      runOp(`${name}.backward`, () => backward(pair, saved as MergeSaved, upstream)),
  });
}

const EPSILON = 1e-5;

/** `rows` `[G, D]` and `weight` `[E, D]` → `[G, E]`. */
function groupLogits(normalise: boolean, name: string): TfjsPair {
  return fromTfjs((rows, weight) => {
    if (!normalise) return matMul(rows as Tensor, weight as Tensor, false, true);
    const centred = sub(rows as Tensor, mean(rows as Tensor, 1, true));
    const unit = mul(centred, rsqrt(add(mean(square(centred), 1, true), EPSILON)));
    return matMul(unit, weight as Tensor, false, true);
  }, `${name}.logits`);
}

interface MergeSaved {
  readonly logits: TfjsSaved;
  /** float32 `[G, T]`. */
  readonly pool: Tensor2D;
  /** float32 `[T, G]`. */
  readonly spread: Tensor2D;
  /** float32 `[G, E]`. */
  readonly mix: Tensor2D;
  /** float32 `[G, E]`, the softmax over all experts. */
  readonly shares: Tensor2D;
  /** float32 `[G, 1]`, or null. */
  readonly gradient: Tensor2D | null;
}

interface Pass {
  readonly x: Tensor2D;
  readonly weight: Tensor2D;
  readonly options: RouterOptions;
}

/** exp of it is 0, and differences of it are finite. */
const EXCLUDED = -1e38;

function forward(
  { gate, pair }: { readonly gate: MergeGate; readonly pair: TfjsPair },
  { x, weight, options }: Pass,
): RouterOutput {
  assertRows(gate.name, x, options);
  const of = gate.groups(x.shape[0], options);
  const pool = addN((of.readBy ?? [of.group]).map((group) => poolMatrix({ group, groups: of.groups })));
  const { value, saved } = pair.forward(matMul(pool, x), weight);
  const logits_GE = value as Tensor2D;
  const host = readHostSync(logits_GE);
  if (firstNotFinite(host) >= 0) throw badGroup(host, { gate, x, options });
  const kept = gate.keep?.(host, options) ?? null;
  const shares_GE = scoreForward(logits_GE, 'softmax');
  const mix_GE =
    kept === null
      ? cloneTensor(shares_GE)
      : scoreForward(where(tensor2d(kept, logits_GE.shape, 'bool'), logits_GE, EXCLUDED), 'softmax');
  const spread = spreadMatrix(of);
  return {
    route: { kind: 'merge', mix: mix_GE, group: of.group },
    logits: matMul<Tensor2D>(spread, logits_GE),
    scores: matMul<Tensor2D>(spread, shares_GE),
    saved: {
      logits: saved,
      pool,
      spread,
      mix: cloneTensor(mix_GE),
      shares: shares_GE,
      gradient: of.gradient === undefined ? null : tensor2d(of.gradient, [of.groups, 1]),
    } satisfies MergeSaved,
  };
}

function backward(
  pair: TfjsPair,
  saved: MergeSaved,
  { route, dlogits, dscores }: RouterUpstream,
): RouterGradients {
  const { pool, spread, mix, shares, gradient } = saved;
  const gather = (rows_TE: Tensor2D): Tensor2D => matMul<Tensor2D>(spread, rows_TE, true);
  const dz_GE = addPresent(
    route?.kind === 'merge' ? softmaxBackward(mix, route.mix) : null,
    dlogits === undefined ? null : gather(dlogits),
    dscores === undefined ? null : softmaxBackward(shares, gather(dscores)),
  );
  const all_GE = dz_GE ?? mul<Tensor2D>(mix, 0);
  const [drows, dweight] = pair.backward(
    saved.logits,
    gradient === null ? all_GE : mul(all_GE, gradient),
  ) as [Tensor2D, Tensor2D];
  return { dx: matMul<Tensor2D>(pool, drows, true), parameters: { weight: dweight } };
}

/** A token whose row is not finite makes its whole group's logits so: it is looked for, which costs a read only here. */
function badGroup(
  logits: ArrayLike<number>,
  { gate, x, options }: { readonly gate: MergeGate; readonly x: Tensor2D; readonly options: RouterOptions },
): MoebiusError {
  const { layer = -1 } = options;
  const place = `${layer < 0 ? '' : `layers[${layer}] `}router "${gate.name}"`;
  const rows = readHostSync(x);
  const bad = firstNotFinite(rows);
  const at = firstNotFinite(logits);
  const group = Math.floor(at / gate.experts);
  const [subject, got] =
    bad < 0
      ? [`logits of group ${group}`, `${logits[at]} for expert ${at % gate.experts}`]
      : [`row of token ${Math.floor(bad / x.shape[1])}`, String(rows[bad])];
  return new MoebiusError({
    code: 'numerics',
    message: `${place} ${subject}: must be finite, got ${got} (check the hidden state and the learning rate)`,
    details: { router: gate.name, layer, group, got },
  });
}
