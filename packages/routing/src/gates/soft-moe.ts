/**
 * @file Soft MoE (Puigcerver et al. 2023, 2308.00951): no choice at all. Every slot of every expert reads a mix of the tokens, every
 * token reads a mix of the slots.
 *
 * ```
 * z_ts = scale · x̂_t · φ̂_s        x̂, φ̂: rows of length 1 (section 2.3), or x_t · φ_s
 * D = softmax of z over the tokens   C = softmax of z over the slots
 * slots = Dᵀ x                       y = C · experts(slots)
 * ```
 * Every sequence has slots of its own. Not causal: a slot mixes all tokens of a sequence.
 *
 * Letters: `T` tokens, `B` sequences, `D` model width, `E` experts, `p` slots of an expert, `S = E·p`, `Z = B·S` slots of a batch.
 */
import { parseConfig, z } from '@moebius/core';
import {
  add,
  cloneTensor,
  div,
  exp,
  fromTfjs,
  matMul,
  max,
  maximum,
  mul,
  readHostSync,
  reshape,
  rsqrt,
  runOp,
  square,
  sub,
  sum,
  tensor2d,
  tile,
  where,
} from '@moebius/tensor';
import type { Tensor, Tensor2D, TfjsPair, TfjsSaved } from '@moebius/tensor';

import { badLogits } from '../bad-logits.ts';
import { defineRouter } from '../define-router.ts';
import type { InitialRequest, Router, RouterGradients, RouterOptions } from '../define-router.ts';
import type { RouterOutput, RouterParameters, RouterUpstream } from '../define-router.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { addPresent, scoreForward, softmaxBackward } from '../score-function.ts';
import { firstBadRow } from './choose.kernel.ts';
import { assertRows, sequenceGroups } from './token-groups.ts';

const schema = z.strictObject({
  slots: z.int().min(1).default(1),
  normalise: z.boolean().default(true),
});

/**
 * Soft MoE by name, `soft-moe`. Options: `slots` of each expert and sequence (default 1; with as many slots in all as tokens it costs what
 * top-1 costs), `normalise` rows and slots to length 1 with a learned scale (default true). Trained: `weight` `[S, D]`, and `scale` `[1]`
 * starting at 1. Its `logits` and `scores` are `[T, S]`. In generation with a cache a sequence is the tokens at hand.
 */
export function softMoeRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'soft-moe',
    create: ({ experts }, options) => createSoftMoe(experts, parseConfig(schema, options, 'options')),
  });
}

type SoftMoeOptions = z.infer<typeof schema>;

function createSoftMoe(experts: number, { slots, normalise }: SoftMoeOptions): Router {
  const pair = slotLogits(normalise);
  const columns = experts * slots;
  return defineRouter({
    name: 'soft-moe',
    experts,
    topK: experts,
    route: 'slots',
    causal: false,
    trusted: true,
    parameterShapes: (modelWidth) => ({
      weight: [columns, modelWidth],
      ...(normalise ? { scale: [1] } : {}),
    }),
    bufferShapes: () => ({}),
    initialise: initialValues,
    forward: (x, parameters, options) =>
      runOp('softMoe', () => forward(pair, { x, parameters, options, slots })),
    backward: (saved, upstream) =>
      runOp('softMoe.backward', () => backward(pair, saved as SoftMoeSaved, upstream)),
  });
}

/** Keeps a row of zeros from being divided by 0. */
const EPSILON = 1e-12;

/** `x` `[T, D]`, `weight` `[S, D]`, `scale` `[1]` → `[T, S]`. */
function slotLogits(normalise: boolean): TfjsPair {
  const unit = (rows: Tensor): Tensor => mul(rows, rsqrt(add(sum(square(rows), 1, true), EPSILON)));
  return fromTfjs(
    (x, weight, scale) =>
      normalise
        ? mul(matMul(unit(x as Tensor), unit(weight as Tensor), false, true), scale as Tensor)
        : matMul(x as Tensor, weight as Tensor, false, true),
    'softMoe.logits',
  );
}

function initialValues(parameter: string, { shape, rng, standardDeviation }: InitialRequest): Float32Array {
  const values = new Float32Array(shape.reduce((size, axis) => size * axis, 1));
  if (parameter === 'scale') values.fill(1);
  else rng.fillNormal(values, { standardDeviation });
  return values;
}

interface SoftMoeSaved {
  readonly logits: TfjsSaved;
  /** float32 `[T, S]`. */
  readonly scores: Tensor2D;
  /** float32 `[T, Z]`. */
  readonly dispatch: Tensor2D;
  /** float32 `[T, Z]`. */
  readonly combine: Tensor2D;
  readonly shape: SlotShape;
}

/** Columns are ordered by expert, then sequence, then slot. */
interface SlotShape {
  readonly experts: number;
  readonly sequences: number;
  readonly slots: number;
}

interface Pass {
  readonly x: Tensor2D;
  readonly parameters: RouterParameters;
  readonly options: RouterOptions;
  readonly slots: number;
}

function forward(pair: TfjsPair, { x, parameters, options, slots }: Pass): RouterOutput {
  assertRows('soft-moe', x, options);
  const { weight, scale } = parameters as { readonly weight: Tensor; readonly scale?: Tensor };
  const { value, saved } = pair.forward(x, weight, ...(scale === undefined ? [] : [scale]));
  const logits_TS = value as Tensor2D;
  assertFinite(logits_TS, options);
  const shape = { experts: logits_TS.shape[1] / slots, sequences: options.sequences ?? 1, slots };
  const isIn_TZ = ownSlots(x.shape[0], options, shape);
  const wide_TZ = where<Tensor2D>(isIn_TZ, repeatSlots(logits_TS, shape), EXCLUDED);
  const [dispatch, combine] = [0, 1].map((axis) => shares(wide_TZ, isIn_TZ, axis)) as [Tensor2D, Tensor2D];
  const scores = scoreForward(logits_TS, 'softmax');
  return {
    route: { kind: 'slots', dispatch, combine },
    logits: logits_TS,
    scores,
    saved: {
      logits: saved,
      scores: cloneTensor(scores),
      dispatch: cloneTensor(dispatch),
      combine: cloneTensor(combine),
      shape,
    } satisfies SoftMoeSaved,
  };
}

function backward(
  pair: TfjsPair,
  { logits, scores, dispatch, combine, shape }: SoftMoeSaved,
  { route, dlogits, dscores }: RouterUpstream,
): RouterGradients {
  const wide_TZ =
    route?.kind === 'slots'
      ? add<Tensor2D>(
          mul(dispatch, sub(route.dispatch, sum(mul(route.dispatch, dispatch), 0, true))),
          softmaxBackward(combine, route.combine),
        )
      : null;
  const dz_TS = addPresent(
    wide_TZ === null ? null : sumSlots(wide_TZ, shape),
    dlogits,
    dscores === undefined ? null : softmaxBackward(scores, dscores),
  );
  const [dx, weight, scale] = pair.backward(logits, dz_TS ?? mul(scores, 0));
  return {
    dx: dx as Tensor2D,
    parameters: { weight: weight as Tensor, ...(scale === undefined ? {} : { scale }) },
  };
}

function assertFinite(logits: Tensor2D, { mask, layer }: RouterOptions): void {
  const [tokens, width] = logits.shape;
  const host = readHostSync(logits);
  const bad = firstBadRow(host, { tokens, width, ...(mask === undefined ? {} : { mask }) });
  if (bad >= 0) throw badLogits(host, bad, { experts: width, layer });
}

/** exp of it is 0, and differences of it are finite. */
const EXCLUDED = -1e38;

/** bool `[T, Z]`: the slots of a token's own sequence; none for a masked token. */
function ownSlots(
  tokens: number,
  options: RouterOptions,
  { experts, sequences, slots }: SlotShape,
): Tensor2D {
  const { group } = sequenceGroups(tokens, options);
  const width = experts * sequences * slots;
  const isIn = new Uint8Array(tokens * width);
  for (const [t, sequence] of group.entries()) {
    if (sequence < 0) continue;
    for (let e = 0; e < experts; e += 1) {
      const from = t * width + (e * sequences + sequence) * slots;
      isIn.fill(1, from, from + slots);
    }
  }
  return tensor2d(isIn, [tokens, width], 'bool');
}

/** `[T, S]` → `[T, Z]`: the logits of an expert's slots once for each sequence. */
function repeatSlots(logits: Tensor2D, { experts, sequences, slots }: SlotShape): Tensor2D {
  if (sequences === 1) return logits;
  const [tokens] = logits.shape;
  const wide = tile(reshape(logits, [tokens, experts, 1, slots]), [1, 1, sequences, 1]);
  return reshape(wide, [tokens, experts * sequences * slots]);
}

/** The transpose of {@link repeatSlots}. */
function sumSlots(wide: Tensor2D, { experts, sequences, slots }: SlotShape): Tensor2D {
  const [tokens] = wide.shape;
  return reshape(sum(reshape(wide, [tokens, experts, sequences, slots]), 2), [tokens, experts * slots]);
}

/** Softmax along an axis over the cells that are in, zeros elsewhere; a line without any is zeros. */
function shares(wide: Tensor2D, isIn: Tensor2D, axis: number): Tensor2D {
  const powers = where<Tensor2D>(isIn, exp<Tensor2D>(sub<Tensor2D>(wide, max(wide, axis, true))), 0);
  return div<Tensor2D>(powers, maximum(sum(powers, axis, true), 1e-30));
}
