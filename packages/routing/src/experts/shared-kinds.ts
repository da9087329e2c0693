/**
 * @file The published ways in which a shared expert joins the routed ones.
 *
 * | name | `y` | source |
 * |---|---|---|
 * | `sum` | routed + shared | DeepSeekMoE (2401.06066, eq. 9) |
 * | `sigmoid-gate` | routed + σ(g·x)·shared | Qwen1.5/2-MoE |
 * | `softmax-mix` | a·routed + b·shared, (a, b) = softmax(W x + c) | DeepSpeed's residual MoE (2201.05596, §4.1) |
 * | `conditional` | G·routed + (1 − G)·shared, G = σ(w·x) | NLLB's CMR (2207.04672, §8.2.1) |
 * | `weighted-mean` | (K·routed + shared) / (K + 1) | OLMo-core |
 *
 * Letters: `T` tokens, `D` model width, `K` experts of a token.
 */
import { configurationError } from '@moebius/core';
import {
  add,
  concat,
  fromTfjs,
  matMul,
  mul,
  ones,
  readHostSync,
  sigmoid,
  softmax,
  sub,
  tensor2d,
  tile,
  zeros,
} from '@moebius/tensor';
import type { Tensor, Tensor2D, TfjsSaved } from '@moebius/tensor';

import { combineByShares } from './shared-combiner.ts';
import type { SharedCombiner, SharedInput, ShareRule } from './shared-combiner.ts';

/** `y = routed + shared`. No tensors. */
export function sumCombiner(): SharedCombiner {
  return combineByShares(
    'sum',
    fixedShares(() => [1, 1]),
  );
}

/** `y = (K·routed + shared) / (K + 1)`: the shared expert counts as one of the chosen. No tensors. */
export function weightedMeanCombiner(): SharedCombiner {
  return combineByShares(
    'weighted-mean',
    fixedShares((topK) => [topK / (topK + 1), 1 / (topK + 1)]),
  );
}

/** `y = routed + σ(g·x)·shared`. Tensor `weight` `[1, D]`. */
export function sigmoidGateCombiner(): SharedCombiner {
  return combineByShares(
    'sigmoid-gate',
    learnedShares('sigmoid-gate', { weight: (modelWidth) => [1, modelWidth] }, (x, weight) => {
      const gate_T1 = sigmoid(matMul(x, weight as Tensor, false, true));
      return concat([ones([x.shape[0] ?? 0, 1]), gate_T1], 1) as Tensor2D;
    }),
  );
}

/** `y = a·routed + b·shared`, `(a, b) = softmax(W x + c)`. Tensors `weight` `[2, D]`, `bias` `[2]`. */
export function softmaxMixCombiner(): SharedCombiner {
  return combineByShares(
    'softmax-mix',
    learnedShares(
      'softmax-mix',
      { weight: (modelWidth) => [2, modelWidth], bias: () => [2] },
      (x, weight, bias) => softmax(add(matMul(x, weight as Tensor, false, true), bias as Tensor)) as Tensor2D,
    ),
  );
}

/** Settings of {@link conditionalCombiner}. */
export interface ConditionalOptions {
  /** In training, this share of tokens is sent through the shared expert alone. Default 0 (NLLB: 0.2). */
  readonly dropRate?: number;
}

/**
 * `y = G·routed + (1 − G)·shared`, `G = σ(w·x)`: conditional MoE routing, where a token may do without routed experts. Tensor
 * `weight` `[1, D]`. Its budget is {@link shareBudget}.
 *
 * @param options - gate dropout
 * @throws `configuration` when the rate is not in [0, 1)
 */
export function conditionalCombiner(options: ConditionalOptions = {}): SharedCombiner {
  const { dropRate = 0 } = options;
  if (!(dropRate >= 0 && dropRate < 1)) {
    const fault = { path: 'dropRate', expectation: 'must be at least 0 and below 1', got: String(dropRate) };
    throw configurationError('conditionalCombiner', [fault]);
  }
  const rule = learnedShares(
    'conditional',
    { weight: (modelWidth) => [1, modelWidth] },
    (x, weight, keep) => {
      const gate_T1 = mul(sigmoid(matMul(x, weight as Tensor, false, true)), keep as Tensor);
      return concat([gate_T1, sub(1, gate_T1)], 1) as Tensor2D;
    },
  );
  return combineByShares('conditional', {
    ...rule,
    forward: (input) =>
      rule.forward({ ...input, parameters: { ...input.parameters, keep: kept(input, dropRate) } }),
    backward: (saved, dshares) => {
      const { dx, parameters } = rule.backward(saved, dshares);
      return { dx, parameters: { weight: parameters['weight'] as Tensor } };
    },
  });
}

/** 1 for tokens that keep their gate, float32 `[T, 1]`. */
function kept({ x, rng }: SharedInput, dropRate: number): Tensor2D {
  const tokens = x.shape[0];
  if (rng === undefined || dropRate === 0) return ones([tokens, 1]);
  const draws = rng.fork('shared gate');
  return tensor2d(
    Float32Array.from({ length: tokens }, () => (draws.uniform() < dropRate ? 0 : 1)),
    [tokens, 1],
  );
}

/** The built-in combiners, each under its name. */
export function builtInCombiners(): readonly SharedCombiner[] {
  return [
    sumCombiner(),
    sigmoidGateCombiner(),
    softmaxMixCombiner(),
    conditionalCombiner(),
    weightedMeanCombiner(),
  ];
}

/** What {@link shareBudget} gives; the caller owns the gradient. */
export interface ShareBudget {
  /** mean |a − budget| over tokens. */
  readonly value: number;
  /** float32 `[T, 2]`, to be scaled and given back to the combiner. */
  readonly dshares: Tensor2D;
}

/**
 * NLLB's budget for routed experts: `mean |a − budget|` of the routed shares `a`. One read.
 *
 * @param shares_T2 - float32 `[T, 2]` of a combiner, borrowed
 * @param budget - the mean share that routed experts should have
 */
export function shareBudget(shares_T2: Tensor2D, budget: number): ShareBudget {
  const shares = readHostSync(shares_T2);
  const tokens = shares_T2.shape[0];
  const gradient = new Float32Array(2 * tokens);
  let total = 0;
  for (let t = 0; t < tokens; t += 1) {
    const over = (shares[2 * t] ?? 0) - budget;
    total += Math.abs(over);
    gradient[2 * t] = Math.sign(over) / tokens;
  }
  return { value: total / tokens, dshares: tensor2d(gradient, [tokens, 2]) };
}

function fixedShares(of: (topK: number) => [number, number]): ShareRule {
  return {
    parameterShapes: () => ({}),
    forward: ({ x, topK }) => ({
      value: tile(tensor2d([of(topK)]), [x.shape[0], 1]),
      saved: x.shape,
    }),
    backward: (saved) => ({ dx: zeros(saved as [number, number]), parameters: {} }),
  };
}

/** Shares by a differentiable function of the rows and the named tensors. */
function learnedShares(
  name: string,
  shapes: Readonly<Record<string, (modelWidth: number) => readonly number[]>>,
  shares: (x: Tensor, ...own: (Tensor | undefined)[]) => Tensor2D,
): ShareRule {
  const names = Object.keys(shapes);
  const pair = fromTfjs((x, ...own) => shares(x as Tensor, ...own), name);
  return {
    parameterShapes: (modelWidth) =>
      Object.fromEntries(names.map((key) => [key, shapes[key]?.(modelWidth) ?? []])),
    forward: ({ x, parameters: { keep, ...own } }) => {
      const inputs = [x, ...names.map((key) => own[key] as Tensor), ...(keep === undefined ? [] : [keep])];
      const { value, saved } = pair.forward(...inputs);
      return { value: value as Tensor2D, saved };
    },
    backward: (saved, dshares) => {
      const [dx, ...own] = pair.backward(saved as TfjsSaved, dshares);
      const parameters = Object.fromEntries(names.map((key, i) => [key, own[i] as Tensor]));
      return { dx: dx as Tensor2D, parameters };
    },
  };
}
