/**
 * @file THOR: experts chosen at random, two an input, and predictions that must agree (Zuo et al. 2022, arXiv 2110.04260, §3).
 *
 * ```
 * each input draws a pair of different experts (i, j) in every layer;   p₁ = f(x; experts i),  p₂ = f(x; experts j)
 * loss = CE(p₁) + CE(p₂) + α · ½ (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁))
 * ```
 * Two routers with the same seed, `pass: 'first'` and `'second'`, draw the same pairs: run the model once with each. `'mean'` runs both
 * experts of a pair with weight ½ in one pass.
 *
 * **Not settled:** what an input is (`token` or `sequence`: the paper dispatches sentences in translation, tokens in ablations), and
 * whether inference averages; nothing is trained in the router.
 *
 * Letters: `T` tokens · `E` experts · `V` classes.
 */
import { createRng, parseConfig, z } from '@moebius/core';
import type { Rng } from '@moebius/core';
import { fill, fromTfjs, log, mean, mul, readHostSync, softmax, sub, sum } from '@moebius/tensor';
import type { Forward, Tensor, Tensor1D, Tensor2D, TfjsPair, TfjsSaved } from '@moebius/tensor';

import type { Router } from '../define-router.ts';
import { composeRouter, constantScorer } from '../gates/index.ts';
import type { Choice, ChooseInput } from '../gates/index.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';

/** Settings of {@link thorRouter}. */
export interface ThorOptions {
  /** `E`, at least 2. */
  readonly experts: number;
  /** Which expert of a pair runs. Default `mean`: both, each with weight ½. */
  readonly pass?: 'first' | 'second' | 'mean';
  /** Who shares a draw. Default `token`. */
  readonly scope?: 'token' | 'sequence';
  /** Draws outside training, where a router is given no generator. Default 0. */
  readonly seed?: number;
}

const schema = z.strictObject({
  experts: z.int().min(2),
  pass: z.enum(['first', 'second', 'mean']).default('mean'),
  scope: z.enum(['token', 'sequence']).default('token'),
  seed: z.int().min(0).default(0),
});

/**
 * A router named `thor`. No tensors; scores are 1/E, logits 0.
 *
 * @param options - experts, pass, scope
 * @throws `configuration` naming every fault
 */
export function thorRouter(options: ThorOptions): Router {
  const settings = parseConfig(schema, options, 'thor');
  const { experts, pass } = settings;
  const both = pass === 'mean';
  return composeRouter({
    name: 'thor',
    experts,
    topK: both ? 2 : 1,
    scorer: constantScorer(experts),
    score: 'softmax',
    choose: (input) => choosePair(input, settings),
    weigh: {
      forward: ({ plan }) => ({ value: fill([plan.token.length], both ? 0.5 : 1) as Tensor1D, saved: null }),
      backward: () => ({}),
    },
  });
}

/** The router by name: `{ "name": "thor", "options": { "pass": "mean" } }`. */
export const thor: RouterFactory = defineRouterFactory({
  name: 'thor',
  create: ({ experts }, options) => thorRouter({ experts, ...options }),
});

function choosePair(input: ChooseInput, { experts, pass, scope, seed }: Required<ThorOptions>): Choice {
  const { tokens, mask, options } = input;
  const rng: Rng = input.rng ?? createRng(seed).fork(options.layer ?? 0);
  const groups = scope === 'token' ? tokens : (options.sequences ?? 1);
  const pairs = Array.from({ length: groups }, () => drawPair(rng, experts));
  const ids: number[] = [];
  const tokenOffsets = new Int32Array(tokens + 1);
  for (let t = 0; t < tokens; t += 1) {
    const [first = 0, second = 0] = pairs[Math.floor((t * groups) / tokens)] ?? [];
    if (mask === undefined || mask[t] !== 0)
      ids.push(...(pass === 'mean' ? [first, second] : [pass === 'first' ? first : second]));
    tokenOffsets[t + 1] = ids.length;
  }
  return { ids: Int32Array.from(ids), tokenOffsets };
}

function drawPair(rng: Rng, experts: number): readonly [number, number] {
  const first = rng.integer(experts);
  const other = rng.integer(experts - 1);
  return [first, other < first ? other : other + 1];
}

/** What {@link consistencyBackward} needs. */
export type ConsistencySaved = TfjsSaved;

const symmetricDivergence: TfjsPair = fromTfjs((left, right) => {
  const [p, q] = [softmax(left as Tensor), softmax(right as Tensor)];
  const each = sum(mul(sub(p, q), sub(log(p), log(q))), -1);
  return mul(0.5, mean(each));
}, 'consistency');

/**
 * `½ (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁))`, the mean over rows, of two predictions of one model. One read.
 *
 * @param left_TV - float32 `[T, V]`, logits of the first pass, borrowed
 * @param right_TV - float32 `[T, V]`, of the second, borrowed
 * @returns the loss, and what backward needs, which the caller owns
 */
export function consistencyForward(left_TV: Tensor2D, right_TV: Tensor2D): Forward<number, ConsistencySaved> {
  const { value, saved } = symmetricDivergence.forward(left_TV, right_TV);
  const [loss = NaN] = readHostSync(value);
  value.dispose();
  return { value: loss, saved };
}

/**
 * Gradients of {@link consistencyForward}.
 *
 * @param saved - borrowed
 * @param scale - α times the loss scale
 * @returns float32 `[T, V]` each; the caller owns them
 */
export function consistencyBackward(
  saved: ConsistencySaved,
  scale: number = 1,
): { readonly dleft: Tensor2D; readonly dright: Tensor2D } {
  const dvalue = fill([], scale);
  const [dleft, dright] = symmetricDivergence.backward(saved, dvalue) as [Tensor2D, Tensor2D];
  dvalue.dispose();
  return { dleft, dright };
}
