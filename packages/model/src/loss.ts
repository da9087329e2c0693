/**
 * @file The training loss: cross-entropy of the next token, plus balance losses on the gates and a z-loss on the logits.
 *
 * `total = crossEntropy + Σ coefficient · value` over `aux`. Balance losses are formed from the statistics of all
 * sparse layers, which are known on the host before backward starts; reading their values is one device-to-host copy.
 * The logits are freed here: backward starts from the gradient the fused cross-entropy made.
 *
 * Letters: `T` tokens = B·S · `D` model width · `V` vocabulary · `E` experts.
 */
import type { Task } from '@moebius/core';
import { readStatistics } from '@moebius/routing';
import type { BalanceLoss, GateObservation, HostStatistics, LossStatistics } from '@moebius/routing';
import {
  add,
  disposeTree,
  linearBackward,
  linearForward,
  mul,
  readHostSync,
  runOp,
  softmaxCrossEntropyForward,
} from '@moebius/tensor';
import type {
  LinearSaved,
  SoftmaxCrossEntropySaved,
  Tensor,
  Tensor1D,
  Tensor2D,
  TensorTree,
} from '@moebius/tensor';

import type { LayerRouting, ParameterGradients } from './block.ts';
import { familyOf } from './family.ts';
import { takeTrunkBackward, type Trunk, type TrunkOutput, type TrunkSaved } from './trunk.ts';

/** A balance loss and its weight in the total. */
export interface WeightedLoss {
  /** The loss. */
  readonly loss: BalanceLoss;
  /** Multiplies its value. */
  readonly coefficient: number;
}

/** One auxiliary loss of a step. */
export interface AuxiliaryLoss {
  /** Without coefficient. */
  readonly value: number;
  /** Its weight in the total. */
  readonly coefficient: number;
}

/** What backward needs. Owned by the holder; `backward` takes it, or free it with `disposeTree`. */
export interface LossSaved {
  /** Of embedding, blocks and last norm. */
  readonly trunk: TrunkSaved;
  /** Of the output projection. */
  readonly head: LinearSaved;
  /** Of the cross-entropy: the gradient `[T, V]` of the logits. */
  readonly crossEntropy: SoftmaxCrossEntropySaved;
  /** The losses on the gates. */
  readonly balance: readonly GatheredLoss[];
}

/** A balance loss with the counts of every sparse layer. */
export interface GatheredLoss extends WeightedLoss {
  /** Of every sparse layer, in layer order. */
  readonly counts: readonly Float64Array[];
  /** Of the same layers; only for a loss that needs them. */
  readonly sums?: readonly Float64Array[];
}

/** The loss of one batch, on the host. */
export interface LossOutput {
  /** Everything, weighted. */
  readonly total: number;
  /** Mean over the counted targets, in nats. */
  readonly crossEntropy: number;
  /** Targets counted. */
  readonly count: number;
  /** Auxiliary losses by name. */
  readonly aux: { readonly [name: string]: AuxiliaryLoss };
  /** Loads of the sparse layers. */
  readonly routing: readonly LayerRouting[];
  /** float32 `[T]`, cross-entropy of each row, 0 where not counted; only when asked for, the caller owns it. */
  readonly lossPerToken: Tensor1D | null;
  /** For `backward`; null unless training. */
  readonly saved: LossSaved | null;
}

/** Gathers what the balance losses need while a forward pass runs. */
export interface LossRecorder {
  /** Hand this to the pass. */
  observe(layer: number, observation: GateObservation): void;
  /** Loads, in layer order. */
  readonly routing: readonly LayerRouting[];
  /** Per loss, per sparse layer. Frees nothing. */
  readonly statistics: readonly (readonly LossStatistics[])[];
  /** Frees the statistics' tensors. */
  dispose(): void;
}

/**
 * Starts gathering.
 *
 * @param losses - balance losses of this step
 */
export function recordLosses(losses: readonly WeightedLoss[]): LossRecorder {
  const routing: LayerRouting[] = [];
  const statistics: LossStatistics[][] = losses.map(() => []);
  return {
    routing,
    statistics,
    observe(layer, observation) {
      const { plan, mask } = observation;
      routing.push({ layer, stats: plan.stats, tokens: countUnmasked(plan.tokens, mask) });
      for (const [at, { loss }] of losses.entries()) statistics[at]?.push(loss.statistics(observation));
    },
    dispose: () => disposeTree(statistics),
  };
}

function countUnmasked(tokens: number, mask: Uint8Array | undefined): number {
  return mask === undefined ? tokens : mask.reduce((count, entry) => count + (entry === 0 ? 0 : 1), 0);
}

/** What {@link finishLoss} is told. */
export interface LossRequest {
  /** int32 `[T]`, the next token of every position; -1 is not counted. */
  readonly targets: Int32Array;
  /** Balance losses of this step. */
  readonly losses: readonly WeightedLoss[];
  /** Gathered by the forward pass; disposed here. */
  readonly recorder: LossRecorder;
  /** Coefficient of the z-loss on the logits, 0 for none. */
  readonly zLossCoefficient: number;
  /** Whether `lossPerToken` is wanted. */
  readonly perToken: boolean;
}

/**
 * Head, cross-entropy and auxiliary losses.
 *
 * @param trunk - the model's parts
 * @param forwarded - taken: the hidden states `[T, D]` are freed, `saved` is passed on
 * @param request - targets and losses
 * @returns numbers, and what backward needs; the caller owns its tensors
 */
export function takeFinishLoss(trunk: Trunk, forwarded: TrunkOutput, request: LossRequest): LossOutput {
  const { recorder, losses, zLossCoefficient } = request;
  let made: TensorTree = null;
  try {
    const head = runOp('loss', () => {
      const weight = trunk.parameters.read(headId(trunk)) as Tensor2D;
      const { value: logits_TV, saved } = linearForward(forwarded.hidden, weight);
      const { value, saved: crossEntropy } = softmaxCrossEntropyForward(logits_TV, request.targets, {
        zLossCoefficient,
      });
      const lossPerToken = request.perToken ? value.lossPerRow : null;
      return {
        value: { loss: value.loss, zLoss: value.zLoss },
        count: value.count,
        lossPerToken,
        saved,
        crossEntropy,
      };
    });
    made = head;
    const crossEntropy = scalarOf(head.value.loss);
    const aux: { [name: string]: AuxiliaryLoss } = {};
    if (zLossCoefficient !== 0) {
      aux['logit-z-loss'] = { value: scalarOf(head.value.zLoss), coefficient: zLossCoefficient };
    }
    const gathered = losses.map(({ loss, coefficient }, at) => {
      const layers = readStatistics(recorder.statistics[at] ?? []);
      aux[loss.name] = { value: loss.value(layers), coefficient };
      return { loss, coefficient, ...gatherStatistics(loss, layers) };
    });
    disposeTree(head.value);
    const { saved: trunkSaved } = forwarded;
    let saved: LossSaved | null = null;
    if (trunkSaved === null) disposeTree([head.saved, head.crossEntropy]);
    else saved = { trunk: trunkSaved, head: head.saved, crossEntropy: head.crossEntropy, balance: gathered };
    const auxTotal = Object.values(aux).reduce((sum, { value, coefficient }) => sum + coefficient * value, 0);
    return {
      total: crossEntropy + auxTotal,
      crossEntropy,
      count: head.count,
      aux,
      routing: recorder.routing,
      lossPerToken: head.lossPerToken,
      saved,
    };
  } catch (error) {
    disposeTree([forwarded.saved, made]);
    throw error;
  } finally {
    forwarded.hidden.dispose();
    recorder.dispose();
  }
}

/**
 * What the gradient of a loss is given of reduced statistics.
 *
 * @param loss - says what it needs
 * @param layers - of every sparse layer
 */
export function gatherStatistics(
  loss: BalanceLoss,
  layers: readonly HostStatistics[],
): Pick<GatheredLoss, 'counts' | 'sums'> {
  const counts = layers.map((layer) => layer.counts);
  const needsSums = loss.needs?.includes('sums') === true;
  return needsSums ? { counts, sums: layers.map((layer) => layer.sums) } : { counts };
}

/** How gradients are scaled. */
export interface BackwardOptions {
  /** Multiplies the gradient of the cross-entropy and the z-loss on the logits. Default 1. */
  readonly scale?: number;
  /** Multiplies the gradient of the balance losses. Default `scale`. */
  readonly auxScale?: number;
}

/**
 * Gradients of the loss. Frees `saved` as it proceeds, and all of it when it fails.
 *
 * A scale is applied to the head's two products instead of the `[T, V]` gradient, which is larger.
 *
 * @param trunk - the model's parts
 * @param saved - taken
 * @returns gradients by parameter id; the caller owns them
 */
export function* takeLossBackward(
  trunk: Trunk,
  saved: LossSaved,
  options: BackwardOptions = {},
): Task<ParameterGradients> {
  const { scale = 1, auxScale = scale } = options;
  const id = headId(trunk);
  let head: { dhidden: Tensor2D; dweight: Tensor2D } | null = null;
  try {
    const { dlogits } = saved.crossEntropy;
    head = runOp('loss.backward', () => {
      const { dx: dhidden, dweight } = linearBackward(saved.head, dlogits);
      if (scale === 1) return { dhidden, dweight };
      return { dhidden: mul<Tensor2D>(dhidden, scale), dweight: mul<Tensor2D>(dweight, scale) };
    });
    disposeTree([saved.head, saved.crossEntropy]);
    const balance = saved.balance.map(({ loss, coefficient, counts, sums }) => ({
      loss,
      counts,
      ...(sums === undefined ? {} : { sums }),
      scale: coefficient * auxScale,
    }));
    const gradients = yield* takeTrunkBackward(saved.trunk, head.dhidden, { trunk, pass: { balance } });
    const result = withHead(gradients, id, head.dweight);
    head.dhidden.dispose();
    head = null;
    return result;
  } finally {
    disposeTree([saved, head]);
  }
}

/** A tied head shares its gradient with the embedding; both arguments' tensors are taken. */
function withHead(gradients: ParameterGradients, id: string, dweight: Tensor2D): ParameterGradients {
  const embedded = gradients[id];
  if (embedded === undefined) return { ...gradients, [id]: dweight };
  const both: Tensor = add(embedded, dweight);
  disposeTree([embedded, dweight]);
  return { ...gradients, [id]: both };
}

/** The id of the output projection: its own, or the embedding's when tied. */
export function headId(trunk: Trunk): string {
  const { names } = familyOf(trunk.config);
  return trunk.config.tie_word_embeddings ? names.embedding : names.head;
}

function scalarOf(tensor: Tensor): number {
  return readHostSync(tensor)[0] ?? NaN;
}
