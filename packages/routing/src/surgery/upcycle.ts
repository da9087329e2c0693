/**
 * @file From one dense feed-forward to many experts: sparse upcycling (Komatsuzaki et al. 2022), and fine-grained upcycling
 * with virtual groups (He et al. 2024, as Megatron does it).
 *
 * Experts are `copies` times the dense layer, each copy cut into `shards`: expert `c·g + s` is shard `s` of copy `c`.
 * The router gives all shards of a copy the same row, so that top-k with `k = m·g` chooses whole copies:
 *
 * ```
 *   y = Σ_chosen w_i · factor · shard_i(x) = factor · (Σ w_i / g) · dense(x)      factor = g / Σ w_i
 * ```
 * The sum of weights is a constant of the gate when it renormalises: then the layer equals the dense one. When it does not, it
 * is one only while all experts score the same, and the layer is near the dense one as far as the router is near zero.
 *
 * Letters: `E` experts = copies · shards, `K` top-k, `F` neurons, `D` model width, `g` shards.
 */
import type { Rng } from '@moebius/core';

import type { ExpertKind } from '../define-expert.ts';
import type { GateConfig } from '../gate-config.ts';
import {
  addNoise,
  configuration,
  type CutOptions,
  type HostExpert,
  type HostTensor,
  mapParts,
  type NeuronSplit,
  scaleExpert,
  sizeOfExpert,
  splitExpert,
  tensorOf,
} from './host-expert.ts';
import { meanOfRows, rootMeanSquare, scaled } from './host-rows.kernel.ts';

/** How a dense layer becomes experts. */
export interface UpcycleOptions extends CutOptions {
  /** Copies of the dense layer. */
  readonly copies: number;
  /** Experts that each copy is cut into: 1 copies whole layers. Default 1. */
  readonly shards?: number;
  /** Which neurons each shard takes. Default: shard `s` takes rows `s·F/g … (s+1)·F/g`. */
  readonly split?: NeuronSplit;
  /** What multiplies every expert's output; see {@link upcycleFactor}. Default 1. */
  readonly factor?: number;
  /** Where the factor goes: into the output matrix, exactly, or evenly into all, as Megatron does. Default `output`. */
  readonly placing?: 'output' | 'even';
  /** Normal noise on all copies but the first, relative to each part's root mean square. Default none. */
  readonly noise?: { readonly relative: number; readonly rng: Rng };
}

/** What multiplies the outputs of upcycled experts. */
export interface UpcycleFactor {
  /** For {@link UpcycleOptions.factor}. */
  readonly factor: number;
  /** Whether the layer then equals the dense one whatever the router's groups score. */
  readonly isExact: boolean;
  /** When it is not exact: what it depends on. */
  readonly reason?: string;
}

/**
 * The factor with which upcycled experts give what the dense layer gave: `g / Σw`. For softmax over all experts without
 * renormalisation that is Megatron's `e·g²/K` (with e copies), else `g`, each over the gate's `scale`.
 *
 * @param gate - of the new layer
 * @param shards - `g`
 * @throws `configuration` when shards do not divide experts, or the gate's weights have no expected sum
 * @example
 * ```ts
 * const gate = parseGateConfig({ experts: 8, topK: 2, renormalise: true });
 * upcycleFactor(gate, 1); // { factor: 1, isExact: true }
 * upcycleFactor(gate, 2); // { factor: 2, isExact: true }
 * ```
 */
export function upcycleFactor(gate: GateConfig, shards = 1): UpcycleFactor {
  const { experts, topK } = gate;
  if (!Number.isInteger(shards) || shards < 1 || experts % shards !== 0) {
    throw configuration('shards', `must divide experts ${experts}`, String(shards));
  }
  const { sum, isFixed } = weightSum(gate);
  const factor = shards / sum;
  if (topK % shards !== 0) {
    return {
      factor,
      isExact: false,
      reason: `top-k ${topK} is not a multiple of ${shards} shards: one copy is chosen in part`,
    };
  }
  if (isFixed) return { factor, isExact: true };
  return {
    factor,
    isExact: false,
    reason: 'the weights of the gate are not renormalised: their sum depends on the router',
  };
}

/**
 * The sum of a token's weights, and whether it is the same for every token.
 *
 * @param gate - parsed
 * @returns for a gate that does not renormalise, the sum when all experts score the same
 * @throws `configuration` for raw logits: they have none
 */
export function weightSum(gate: GateConfig): { readonly sum: number; readonly isFixed: boolean } {
  const { experts, topK, score, scoreAfterTopK, renormalise, scale } = gate;
  // All scores of a ReLU may be 0: then there is nothing to divide by.
  const isFixed = renormalise || (score === 'softmax' && (scoreAfterTopK || topK === experts));
  if (isFixed && score !== 'relu') return { sum: scale, isFixed };
  if (score === 'softmax') return { sum: (scale * topK) / experts, isFixed: false };
  if (score === 'sigmoid') return { sum: (scale * topK) / 2, isFixed: false };
  if (score === 'sqrt-softplus') return { sum: scale * topK * Math.sqrt(Math.LN2), isFixed: false };
  throw configuration(
    `gate score ${score}`,
    'must have weights with an expected sum (softmax, sigmoid, sqrt-softplus)',
    score,
    'give the factor yourself',
  );
}

/**
 * All experts of an upcycled layer.
 *
 * @param kind - of the dense layer and of the experts; with shards it must have neurons
 * @param dense - borrowed
 * @param options - copies, shards, factor, noise
 * @returns `copies · shards` fresh experts, the shards of a copy side by side; without noise all copies are the same bits
 * @throws `configuration` when shards do not divide the neurons; `shape`
 * @example
 * ```ts
 * const dense = { up: { shape: [4, 2], data: new Float32Array(8) }, down: { shape: [4, 2], data: new Float32Array(8) } };
 * const experts = upcycleExperts(plainExpert(), dense, { copies: 4, shards: 2, factor: 2 }); // 8 experts of 2 neurons
 * ```
 */
export function upcycleExperts(kind: ExpertKind, dense: HostExpert, options: UpcycleOptions): HostExpert[] {
  const { copies, shards = 1 } = options;
  assertCopies(copies);
  const cut = shardsOf(kind, dense, options);
  return Array.from({ length: copies * shards }, (_, expert) => finish(cut, options, expert));
}

/**
 * One expert of {@link upcycleExperts}: the same bits, for layers that do not fit in memory together.
 *
 * @param kind - as there
 * @param dense - borrowed
 * @param options - as there, and which `expert`, below `copies · shards`
 */
export function upcycleExpert(
  kind: ExpertKind,
  dense: HostExpert,
  options: UpcycleOptions & { readonly expert: number },
): HostExpert {
  const { copies, shards = 1, expert } = options;
  assertCopies(copies);
  if (!Number.isInteger(expert) || expert < 0 || expert >= copies * shards) {
    throw configuration(
      'expert',
      `must be an integer below copies · shards ${copies * shards}`,
      String(expert),
    );
  }
  return finish(shardsOf(kind, dense, options), options, expert);
}

function finish(shards: readonly HostExpert[], { noise }: UpcycleOptions, expert: number): HostExpert {
  const shard = shards[expert % shards.length] ?? {};
  const isFirst = expert < shards.length;
  return noise === undefined || isFirst
    ? copyExpert(shard)
    : addNoise(shard, noise.relative, noise.rng.fork(expert));
}

/** Every expert owns its numbers. */
function copyExpert(shard: HostExpert): HostExpert {
  return mapParts(shard, ({ shape, data }) => ({ shape, data: data.slice() }));
}

function shardsOf(kind: ExpertKind, dense: HostExpert, options: UpcycleOptions): HostExpert[] {
  const { shards = 1, factor = 1, placing = 'output' } = options;
  const { hiddenWidth } = sizeOfExpert(kind, dense, 'dense layer');
  const whole = scaleExpert(kind, dense, { ...options, factor, placing });
  if (shards === 1) return [whole];
  const split = options.split ?? splitInOrder(hiddenWidth, shards);
  if (split.length !== shards)
    throw configuration('split', `must have ${shards} shards`, String(split.length));
  return splitExpert(kind, whole, split, options);
}

/**
 * Neurons shared out in order: the first F/n to the first expert.
 *
 * @throws `configuration` when experts do not divide neurons
 */
export function splitInOrder(neurons: number, experts: number): NeuronSplit {
  const width = shareOf(neurons, experts);
  return Array.from({ length: experts }, (_, e) =>
    Int32Array.from({ length: width }, (_unused, i) => e * width + i),
  );
}

/** Neurons of each expert, when they can be shared out evenly. */
export function shareOf(neurons: number, experts: number): number {
  if (Number.isInteger(experts) && experts >= 1 && neurons >= experts && neurons % experts === 0)
    return neurons / experts;
  throw configuration(
    'neurons',
    `must be a multiple of the ${experts} experts that share them`,
    String(neurons),
    'choose a number that divides them',
  );
}

/** What {@link virtualGroupRouter} makes. */
export interface VirtualGroupOptions {
  /** Rows that differ. */
  readonly copies: number;
  /** Times that each row is repeated. Default 1. */
  readonly shards?: number;
  /** `D` */
  readonly modelWidth: number;
  /** Of the rows; 0 gives zeros. */
  readonly standardDeviation: number;
  /** Advanced. */
  readonly rng: Rng;
}

/**
 * First values of an upcycled layer's router: one random row for each copy, repeated for each of its shards. All shards of a
 * copy then have the same score, and top-k takes or leaves copies as wholes.
 *
 * @returns Float32Array `[copies · shards, D]`
 */
export function virtualGroupRouter(options: VirtualGroupOptions): HostTensor {
  const { copies, shards = 1, modelWidth, standardDeviation, rng } = options;
  assertCopies(copies);
  const data = new Float32Array(copies * shards * modelWidth);
  for (let copy = 0; copy < copies; copy += 1) {
    const row = new Float32Array(modelWidth);
    rng.fillNormal(row, { standardDeviation });
    for (let shard = 0; shard < shards; shard += 1) data.set(row, (copy * shards + shard) * modelWidth);
  }
  return { shape: [copies * shards, modelWidth], data };
}

/**
 * A router without training (EMoE, Qiu et al. 2023): each row is the mean of its expert's first matrix, so that an expert
 * is chosen where its neurons would answer. For experts that were split by {@link clusterNeurons}.
 *
 * @param experts - of one width `D`
 * @param options - `part` `[F, D]` to take the mean of; `standardDeviation` of all rows together, absent: as it comes
 * @returns Float32Array `[E, D]`
 */
export function meanKeyRouter(
  experts: readonly HostExpert[],
  options: { readonly part: string; readonly standardDeviation?: number },
): HostTensor {
  const { part, standardDeviation } = options;
  const rows = experts.map((expert) => {
    const { shape, data } = tensorOf(expert, part);
    const [neurons = 0, width = 0] = shape;
    return meanOfRows(data, neurons, width);
  });
  const width = rows[0]?.length ?? 0;
  const data = new Float32Array(rows.length * width);
  for (const [at, row] of rows.entries()) data.set(row, at * width);
  const size = rootMeanSquare(data);
  const factor = standardDeviation === undefined || size === 0 ? 1 : standardDeviation / size;
  return { shape: [rows.length, width], data: scaled(data, factor) };
}

function assertCopies(copies: number): void {
  if (Number.isInteger(copies) && copies >= 1) return;
  throw configuration('copies', 'must be an integer of at least 1', String(copies));
}
