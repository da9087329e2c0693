/**
 * @file PEER: a million experts of one neuron each, found by product keys (He 2024, arXiv 2407.04153, §2).
 *
 * ```
 * head h:   q = W_h x = (q₁, q₂)    s[i, j] = q₁·c_i + q₂·c'_j      the k best of n² pairs, from the k best of either half
 *           y = Σ_h Σ_{e chosen} w_e · act(u_e·x) · v_e,             w = softmax over the k sums, or σ of each
 * ```
 * It is a layer of its own, not a router: `[T, n²]` scores never exist, and the experts are two tables, not units.
 *
 * **Not settled:** batch normalisation of queries (used in the paper for balance) is left out; whether `softmax` or `sigmoid` weights
 * are better differs between implementations; gradients of the tables are dense.
 *
 * Letters: `T` tokens · `D` model width · `H` heads · `Q` half of a query · `n` keys a half · `E` = n² experts · `K` top-k.
 */
import { MoebiusError } from '@moebius/core';
import {
  add,
  assertDivides,
  assertShape,
  concat,
  embedding,
  fromTfjs,
  linear,
  matMul,
  mul,
  readHostSync,
  relu,
  reshape,
  runOp,
  sigmoid,
  slice,
  softmax,
} from '@moebius/tensor';
import type { Dims, Forward, Tensor, Tensor2D, TfjsPair, TfjsSaved } from '@moebius/tensor';

import { productTopK } from './product-keys.kernel.ts';

/** Tensors of a PEER layer. */
export interface PeerParameters {
  /** float32 `[H·2Q, D]`: a query of every head, left half first. */
  readonly query: Tensor2D;
  /** float32 `[n, Q]`, shared by the heads. */
  readonly leftKeys: Tensor2D;
  /** float32 `[n, Q]`. */
  readonly rightKeys: Tensor2D;
  /** float32 `[E, D]`, what neuron e reads. */
  readonly down: Tensor2D;
  /** float32 `[E, D]`, what neuron e writes. */
  readonly up: Tensor2D;
}

/** Settings of {@link peerForward}. */
export interface PeerOptions {
  /** `H`. */
  readonly heads: number;
  /** Experts of each head `K`, at most n. */
  readonly topK: number;
  /** Weights from sums. Default `softmax` over the chosen of a head. */
  readonly weights?: 'softmax' | 'sigmoid';
  /** Of the neurons. Default `relu`. */
  readonly activation?: 'relu' | 'silu';
}

/** What {@link peerBackward} needs. */
export interface PeerSaved {
  /** Int32Array `[T, H, K]`: who was chosen. */
  readonly experts: Int32Array;
  readonly inputs: TfjsSaved;
  readonly options: PeerOptions;
}

/** Gradients of {@link peerForward}. */
export interface PeerGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** Of every tensor. */
  readonly parameters: PeerParameters;
}

type PeerInputs = [Tensor2D, Tensor2D, Tensor2D, Tensor2D, Tensor2D, Tensor2D];

const names = ['query', 'leftKeys', 'rightKeys', 'down', 'up'] as const;

/**
 * Runs a PEER layer; reads `[T·H, 2n]` half scores once. It gathers `T·H·K` rows of either table, so memory grows with those.
 *
 * @param x_TD - float32 `[T, D]`, borrowed
 * @param parameters - `[…]`, borrowed
 * @param options - heads, experts a head, weights, activation
 * @returns `y` float32 `[T, D]` and what backward needs; the caller owns both
 * @throws `shape`; `configuration` when K is more than n; `numerics` on a score that is not finite
 */
export function peerForward(
  x_TD: Tensor2D,
  parameters: PeerParameters,
  options: PeerOptions,
): Forward<Tensor2D, PeerSaved> {
  const keys = assertParameters(x_TD, parameters, options);
  const rows = x_TD.shape[0] * options.heads;
  const scores = runOp('peer.scores', () => halfScores(x_TD, parameters, options.heads));
  const host = readHostSync(scores);
  scores.dispose();
  const bad = host.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw badScore(host[bad] ?? NaN, Math.floor(bad / (2 * keys * options.heads)));
  const experts = productTopK(host, { rows, keys, topK: options.topK });
  const { value, saved } = pairOf(experts, options).forward(x_TD, ...names.map((name) => parameters[name]));
  return { value: value as Tensor2D, saved: { experts, inputs: saved, options } };
}

/**
 * Gradients of {@link peerForward}, the choice held fixed. One more forward on the tape.
 *
 * @param saved - borrowed
 * @param dy_TD - float32 `[T, D]`, borrowed
 * @returns fresh gradients; the caller owns them
 */
export function peerBackward(saved: PeerSaved, dy_TD: Tensor2D): PeerGradients {
  const { experts, inputs, options } = saved;
  const [dx, ...own] = pairOf(experts, options).backward(inputs, dy_TD) as Tensor2D[];
  const parameters = Object.fromEntries(names.map((name, i) => [name, own[i]]));
  return { dx: dx as Tensor2D, parameters: parameters as unknown as PeerParameters };
}

/** float32 `[T·H, 2n]`: left scores, then right ones. */
function halfScores(
  x_TD: Tensor2D,
  { query, leftKeys, rightKeys }: Pick<PeerParameters, 'query' | 'leftKeys' | 'rightKeys'>,
  heads: number,
): Tensor2D {
  const half = leftKeys.shape[1];
  const q_RQ: Tensor2D = reshape(linear(x_TD, query), [x_TD.shape[0] * heads, 2 * half]);
  const rows = q_RQ.shape[0];
  const left = linear(slice(q_RQ, [0, 0], [rows, half]), leftKeys);
  const right = linear(slice(q_RQ, [0, half], [rows, half]), rightKeys);
  return concat([left, right], 1);
}

/** The layer as a differentiable function, once it is known who was chosen. */
function pairOf(experts: Int32Array, options: PeerOptions): TfjsPair {
  const { heads, topK, weights = 'softmax', activation = 'relu' } = options;
  return fromTfjs((...inputs: Tensor[]) => {
    const [x, query, leftKeys, rightKeys, down, up] = inputs as PeerInputs;
    const [tokens, width] = x.shape;
    const keys = leftKeys.shape[0];
    const scores = halfScores(x, { query, leftKeys, rightKeys }, heads);
    const table: Tensor2D = reshape(scores, [scores.size, 1]);
    const place = (half: (expert: number) => number): Int32Array =>
      experts.map((expert, n) => Math.floor(n / topK) * 2 * keys + half(expert));
    const left = embedding(
      table,
      place((expert) => Math.floor(expert / keys)),
    );
    const right = embedding(
      table,
      place((expert) => keys + (expert % keys)),
    );
    const sums = reshape(add(left, right), [tokens * heads, topK]);
    const w = reshape(weights === 'softmax' ? softmax(sums) : sigmoid(sums), [tokens, heads * topK, 1]);
    const rowsOf = (source: Tensor2D): Tensor =>
      reshape(embedding(source, experts), [tokens, heads * topK, width]);
    const pre = matMul(rowsOf(down), reshape(x, [tokens, width, 1]));
    const acted = activation === 'relu' ? relu(pre) : mul(pre, sigmoid(pre));
    return reshape(matMul(mul(acted, w), rowsOf(up), true, false), [tokens, width]);
  }, 'peer');
}

function assertParameters(x: Tensor2D, parameters: PeerParameters, { heads, topK }: PeerOptions): number {
  const { query, leftKeys, rightKeys, down, up } = parameters;
  const dims: Dims = {};
  assertShape(x, 'T D', dims, 'peer x');
  assertShape(leftKeys, 'n Q', dims, 'peer leftKeys');
  assertShape(rightKeys, 'n Q', dims, 'peer rightKeys');
  const [keys, half] = leftKeys.shape;
  const sizes = { ...dims, E: keys * keys, W: heads * 2 * half };
  assertShape(query, 'W D', sizes, 'peer query');
  assertShape(down, 'E D', sizes, 'peer down');
  assertShape(up, 'E D', sizes, 'peer up');
  assertDivides(query.shape[0], heads, 'peer query rows by heads');
  if (Number.isInteger(topK) && topK >= 1 && topK <= keys) return keys;
  throw new MoebiusError({
    code: 'configuration',
    message: `peer.topK: must be an integer from 1 to the ${keys} keys of a half, got ${topK}`,
    details: { topK, keys },
  });
}

function badScore(value: number, token: number): MoebiusError {
  return new MoebiusError({
    code: 'numerics',
    message: `peer: scores must be finite, got ${value} for token ${token} (check the hidden rows and the keys)`,
    details: { token, value: String(value) },
  });
}
