/**
 * @file DSelect-k: k selectors that are binary codes of smooth bits (Hazimeh et al. 2021, arXiv 2106.03760, §3).
 *
 * ```
 * S(t) = 0 below −γ/2, 1 above γ/2, between: −2/γ³ t³ + 3/(2γ) t + ½          (a step with a slope)
 * selector i:  z_i = A_i x + b_i  [log₂E bits]      r_i[e] = Π_bits S(z) or 1 − S(z), as the bits of e say, lowest first
 * w = Σ_i softmax(G x)_i · r_i                       rows of w sum to 1; once every bit is decided, k experts or fewer are on
 * entropy = mean over tokens of Σ_i H(r_i)           pushes bits to decide
 * ```
 * A gate whose every operation is differentiable: the choice is where `w > 0`, so the gradient is that of the whole function.
 *
 * **Not settled:** E that is no power of 2 (the paper adds a penalty on codes of no expert; here it is refused), and the schedule
 * of the entropy's coefficient.
 *
 * Letters: `T` tokens · `D` model width · `E` experts · `K` selectors.
 */
import { configurationError, parseConfig, z } from '@moebius/core';
import {
  add,
  concat,
  fill,
  fromTfjs,
  linear,
  log,
  maximum,
  mean,
  minimum,
  mul,
  ones,
  pow,
  readHostSync,
  reshape,
  slice,
  softmax,
  sub,
  sum,
} from '@moebius/tensor';
import type { Forward, Tensor, Tensor1D, Tensor2D, TfjsPair, TfjsSaved } from '@moebius/tensor';

import type { Router, RouterParameters } from '../define-router.ts';
import { composeRouter, scorerOf, weighScores } from '../gates/index.ts';
import type { Choice, ChooseInput } from '../gates/index.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';

/** Settings of {@link dselectKRouter}. */
export interface DselectKOptions {
  /** `E`, a power of 2, at least 2. */
  readonly experts: number;
  /** Selectors `K`. */
  readonly topK: number;
  /** Width γ of the smooth step. Default 1. */
  readonly gamma?: number;
}

const schema = z.strictObject({
  experts: z.int().min(2),
  topK: z.int().min(1),
  gamma: z.number().positive().default(1),
});

type Settings = Required<DselectKOptions>;

/** Tensors of the gate, in the order of {@link gateShapes}. */
const names = ['codes', 'codesBias', 'selectors'] as const;

/**
 * A router named `dselect-k`. Tensors `codes` `[K·log₂E, D]`, `codesBias` `[K·log₂E]`, `selectors` `[K, D]`. Scores and logits are the
 * weights `w`. While bits are undecided a token has up to E experts.
 *
 * @param options - experts, selectors, step width
 * @throws `configuration` naming every fault
 */
export function dselectKRouter(options: DselectKOptions): Router {
  const settings = parseSettings(options);
  const { experts, topK } = settings;
  return composeRouter({
    name: 'dselect-k',
    experts,
    topK: Math.min(topK, experts),
    scorer: scorerOf({
      name: 'dselect-k',
      parameterShapes: (modelWidth) => gateShapes(settings, modelWidth),
      logits: (x, parameters) => gateWeights(x, parameters, settings).weights,
    }),
    score: 'identity',
    choose: choosePositive,
    weigh: weighScores(),
  });
}

/** The router by name: `{ "name": "dselect-k", "options": { "gamma": 1 } }`. */
export const dselectK: RouterFactory = defineRouterFactory({
  name: 'dselect-k',
  create: ({ experts, topK }, options) => dselectKRouter({ experts, topK, ...options }),
});

/** What {@link dselectEntropyBackward} needs. */
export interface DselectEntropySaved {
  readonly inputs: TfjsSaved;
  readonly settings: Settings;
}

/**
 * `mean over tokens of Σ_i H(r_i)`: 0 when every bit is decided, `K ln E` when none is. One read.
 *
 * @param x_TD - float32 `[T, D]`, what the router read, borrowed
 * @param parameters - of the router, borrowed
 * @param options - of the router
 * @returns the loss, and what backward needs, which the caller owns
 */
export function dselectEntropyForward(
  x_TD: Tensor2D,
  parameters: RouterParameters,
  options: DselectKOptions,
): Forward<number, DselectEntropySaved> {
  const settings = parseSettings(options);
  const inputs = [x_TD, ...names.map((name) => parameters[name] as Tensor)];
  const { value, saved } = entropyPair(settings).forward(...inputs);
  const [loss = NaN] = readHostSync(value);
  value.dispose();
  return { value: loss, saved: { inputs: saved, settings } };
}

/**
 * Gradients of {@link dselectEntropyForward}.
 *
 * @param saved - borrowed
 * @param scale - coefficient times the loss scale
 * @returns `dx` `[T, D]` and those of the router's tensors; the caller owns them
 */
export function dselectEntropyBackward(
  saved: DselectEntropySaved,
  scale: number = 1,
): { readonly dx: Tensor2D; readonly parameters: RouterParameters } {
  const dvalue = fill([], scale);
  const [dx, ...own] = entropyPair(saved.settings).backward(saved.inputs, dvalue);
  dvalue.dispose();
  return {
    dx: dx as Tensor2D,
    parameters: Object.fromEntries(names.map((name, i) => [name, own[i] as Tensor])),
  };
}

function entropyPair(settings: Settings): TfjsPair {
  return fromTfjs((x, ...own) => {
    const parameters = Object.fromEntries(names.map((name, i) => [name, own[i] as Tensor]));
    const { selected } = gateWeights(x as Tensor2D, parameters, settings);
    const entropies = sum(mul(selected, log(add(selected, 1e-8))), -1);
    return mul(-1, mean(sum(entropies, -1)));
  }, 'dselect-k.entropy');
}

function parseSettings(options: DselectKOptions): Settings {
  const settings = parseConfig(schema, options, 'dselect-k');
  if (Number.isInteger(Math.log2(settings.experts))) return settings;
  throw configurationError('dselect-k', [
    {
      path: 'experts',
      expectation: 'must be a power of 2, one expert for each code',
      got: String(settings.experts),
      remedy: `use ${2 ** Math.round(Math.log2(settings.experts))}`,
    },
  ]);
}

function gateShapes({ experts, topK }: Settings, modelWidth: number): Record<string, readonly number[]> {
  const bits = topK * Math.log2(experts);
  return { codes: [bits, modelWidth], codesBias: [bits], selectors: [topK, modelWidth] };
}

/** `w` float32 `[T, E]` and the selectors `r` float32 `[T, K, E]`. */
function gateWeights(
  x_TD: Tensor2D,
  parameters: RouterParameters,
  { experts, topK, gamma }: Settings,
): { readonly weights: Tensor2D; readonly selected: Tensor } {
  const { codes, codesBias, selectors } = parameters;
  const [tokens] = x_TD.shape;
  const bits = Math.log2(experts);
  const z_TKB = reshape(linear(x_TD, codes as Tensor2D, codesBias as Tensor1D), [tokens, topK, bits]);
  const steps = smoothStep(z_TKB, gamma);
  let selected: Tensor = ones([tokens, topK, 1]);
  for (let bit = 0; bit < bits; bit += 1) {
    const on = slice(steps, [0, 0, bit], [tokens, topK, 1]);
    selected = concat([mul(selected, sub(1, on)), mul(selected, on)], 2);
  }
  const shares = reshape(softmax(linear(x_TD, selectors as Tensor2D)), [tokens, topK, 1]);
  return { weights: sum<Tensor2D>(mul(shares, selected), 1), selected };
}

/** `S(t)`: its slope is 0 at both ends, so that clamping `t` first changes no gradient. */
function smoothStep(t: Tensor, gamma: number): Tensor {
  const inside = maximum(minimum(t, gamma / 2), -gamma / 2);
  return add(add(mul(pow(inside, 3), -2 / gamma ** 3), mul(inside, 3 / (2 * gamma))), 0.5);
}

/** Every expert with a weight above 0, heaviest first. */
function choosePositive({ tokens, experts, logits, mask }: ChooseInput): Choice {
  const ids: number[] = [];
  const tokenOffsets = new Int32Array(tokens + 1);
  for (let t = 0; t < tokens; t += 1) {
    const row = Array.from({ length: experts }, (_, e) => logits[t * experts + e] ?? 0);
    const on = row.map((_, e) => e).filter((e) => (row[e] ?? 0) > 0);
    if (mask === undefined || mask[t] !== 0)
      ids.push(...on.toSorted((a, b) => (row[b] ?? 0) - (row[a] ?? 0) || a - b));
    tokenOffsets[t + 1] = ids.length;
  }
  return { ids: Int32Array.from(ids), tokenOffsets };
}
