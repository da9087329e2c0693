/**
 * @file Attention experts: MoA (Zhang et al. 2022, arXiv 2210.05144, §3), as in JetMoE and ModuleFormer.
 *
 * ```
 * k, v = K x, V x                        shared by all experts, H heads
 * expert e:   E_e(x_t) = O_e · attention(Q_e x_t, k, v)          H heads of its own, causal within the sequence
 * y_t = Σ_{e chosen for t} w_te · E_e(x_t)
 * ```
 * Who attends with which expert is a plan of pairs of any router; queries of the same token become further query heads of one attention
 * call, in groups that share keys and values. With one expert, one choice and weight 1 it is multi-head attention.
 *
 * **Not settled:** where position goes (rotate q and k before: RoPE is not applied here); KV-cached decoding; which of the three
 * balance losses of the paper are needed.
 *
 * Letters: `B` sequences · `S` length · `T` = B·S · `D` model width · `H` heads · `C` head width · `E` experts · `N` pairs · `K` most pairs of a token.
 */
import {
  assertCount,
  assertShape,
  attention,
  combineRows,
  concat,
  embedding,
  fromTfjs,
  gatherRows,
  groupedMatmul,
  linear,
  reshape,
  transpose,
  zeros,
} from '@moebius/tensor';
import type { Dims, Forward, Tensor, Tensor1D, Tensor2D, TfjsPair, TfjsSaved } from '@moebius/tensor';

import type { DispatchPlan } from '../dispatch-plan.ts';
import type { PairsRoute } from '../route.ts';

/** What one attention expert owns. */
export interface AttentionExpert {
  /** float32 `[H·C, D]`. */
  readonly query: Tensor2D;
  /** float32 `[D, H·C]`. */
  readonly output: Tensor2D;
}

/** Tensors of a layer of attention experts. */
export interface MoaParameters {
  /** float32 `[H·C, D]`, shared. */
  readonly key: Tensor2D;
  /** float32 `[H·C, D]`, shared. */
  readonly value: Tensor2D;
  /** `[E]`. */
  readonly experts: readonly AttentionExpert[];
}

/** What is routed. Borrowed. */
export interface MoaInput {
  /** float32 `[T, D]`, B sequences one after another. */
  readonly x: Tensor2D;
  /** Of any router of pairs. */
  readonly route: PairsRoute;
}

/** Sizes of {@link moaForward}. */
export interface MoaOptions {
  /** `B`. */
  readonly sequences: number;
  /** `H` of every expert. */
  readonly heads: number;
}

/** What {@link moaBackward} needs. */
export interface MoaSaved {
  readonly inputs: TfjsSaved;
  readonly plan: DispatchPlan;
  readonly options: MoaOptions;
}

/** Gradients of {@link moaForward}; the caller owns them. */
export interface MoaGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** float32 `[N]`, for the router. */
  readonly dweights: Tensor1D;
  /** Of every tensor. */
  readonly parameters: MoaParameters;
}

/**
 * Runs a layer of attention experts. A token without a pair has a zero row; it is still attended to.
 *
 * @param input - rows `[T, D]` and their route, borrowed
 * @param parameters - `[…]`, borrowed
 * @param options - sequences and heads
 * @returns `y` float32 `[T, D]` and what backward needs; the caller owns both
 * @throws `shape`
 */
export function moaForward(
  input: MoaInput,
  parameters: MoaParameters,
  options: MoaOptions,
): Forward<Tensor2D, MoaSaved> {
  const { x, route } = input;
  const { key, value, experts } = parameters;
  const { plan, weights } = route;
  const dims: Dims = { T: plan.tokens, N: plan.token.length };
  assertShape(x, 'T D', dims, 'moa x');
  assertShape(weights, 'N', dims, 'moa route weights');
  assertCount(experts.length, plan.experts, 'moa experts');
  assertShape(key, 'Z D', dims, 'moa key');
  assertShape(value, 'Z D', dims, 'moa value');
  for (const [e, expert] of experts.entries()) {
    assertShape(expert.query, 'Z D', dims, `moa experts[${e}] query`);
    assertShape(expert.output, 'D Z', dims, `moa experts[${e}] output`);
  }
  const own = experts.flatMap(({ query, output }) => [query, output]);
  const run = pairOf(plan, options).forward(x, weights, key, value, ...own);
  return { value: run.value as Tensor2D, saved: { inputs: run.saved, plan, options } };
}

/**
 * Gradients of {@link moaForward}. One more forward on the tape.
 *
 * @param saved - borrowed
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients; the caller owns them
 */
export function moaBackward(saved: MoaSaved, dy_TD: Tensor2D): MoaGradients {
  const { inputs, plan, options } = saved;
  const gradients = pairOf(plan, options).backward(inputs, dy_TD);
  const [dx, dweights, key, value, ...own] = gradients as [Tensor2D, Tensor1D, ...Tensor2D[]];
  const experts = Array.from({ length: plan.experts }, (_, e) => ({
    query: own[2 * e] as Tensor2D,
    output: own[2 * e + 1] as Tensor2D,
  }));
  return { dx, dweights, parameters: { key: key as Tensor2D, value: value as Tensor2D, experts } };
}

function pairOf(plan: DispatchPlan, options: MoaOptions): TfjsPair {
  return fromTfjs((...inputs: Tensor[]) => {
    const [x, weights, key, value, ...own] = inputs as [
      Tensor2D,
      Tensor1D,
      Tensor2D,
      Tensor2D,
      ...Tensor2D[],
    ];
    if (plan.token.length === 0) return zeros(x.shape);
    const queries = own.filter((_, at) => at % 2 === 0);
    const outputs = own.filter((_, at) => at % 2 === 1);
    const q_NZ = groupedMatmul(gatherRows(x, plan), queries, plan.offsets);
    const attended_NZ = attendPairs(
      q_NZ,
      { key: linear(x, key), value: linear(x, value) },
      { plan, options },
    );
    return combineRows(groupedMatmul(attended_NZ, outputs, plan.offsets), weights, plan);
  }, 'moa');
}

/** Attention of every pair's query `[N, Z]`: those of one token are K query heads beside each other. */
function attendPairs(
  q_NZ: Tensor2D,
  shared: { readonly key: Tensor2D; readonly value: Tensor2D },
  { plan, options }: { readonly plan: DispatchPlan; readonly options: MoaOptions },
): Tensor2D {
  const { sequences: batch, heads } = options;
  const { tokens } = plan;
  const width = q_NZ.shape[1];
  const { most, pairOfPlace, placeOfPair } = placesOf(plan);
  const none: Tensor2D = zeros([1, width]);
  const padded = concat([q_NZ, none], 0);
  const split = reshape(embedding(padded, pairOfPlace), [tokens, most, heads, width / heads]);
  const q_TZ: Tensor2D = reshape(transpose(split, [0, 2, 1, 3]), [tokens, most * width]);
  const y_TZ = attention(q_TZ, shared.key, shared.value, { batch, heads: heads * most, kvHeads: heads });
  const joined = transpose(reshape(y_TZ, [tokens, heads, most, width / heads]), [0, 2, 1, 3]);
  const rows: Tensor2D = reshape(joined, [tokens * most, width]);
  return embedding(rows, placeOfPair);
}

/** Where pair n stands among `T·K` places, and which pair stands there; N stands for none. */
function placesOf(plan: DispatchPlan): {
  readonly most: number;
  readonly pairOfPlace: Int32Array;
  readonly placeOfPair: Int32Array;
} {
  const { tokens, tokenOffsets, slot } = plan;
  let most = 1;
  for (let t = 0; t < tokens; t += 1)
    most = Math.max(most, (tokenOffsets[t + 1] ?? 0) - (tokenOffsets[t] ?? 0));
  const pairOfPlace = new Int32Array(tokens * most).fill(slot.length);
  const placeOfPair = new Int32Array(slot.length);
  for (let t = 0; t < tokens; t += 1) {
    const from = tokenOffsets[t] ?? 0;
    for (let at = from; at < (tokenOffsets[t + 1] ?? 0); at += 1) {
      const pair = slot[at] ?? 0;
      pairOfPlace[t * most + at - from] = pair;
      placeOfPair[pair] = t * most + at - from;
    }
  }
  return { most, pairOfPlace, placeOfPair };
}
