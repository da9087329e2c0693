/**
 * @file The decoder language model: parts wired together, explicit forward and backward as tasks.
 *
 * ```
 * ids ─► embedding ─► block 0 ─► … ─► block L-1 ─► norm ─► hidden ─► head ─► logits ─► loss
 *                     attention, then dense feed-forward or gate ─► executor ─► sum
 * ```
 * Letters: `T` tokens = B·S · `D` model width · `V` vocabulary · `L` layers.
 */
import { MoebiusError, type Task } from '@moebius/core';
import { createLocalExecutor, createResidentSource, gatedExpert, loadBalanceLoss } from '@moebius/routing';
import type { ExpertExecutor, ExpertSource, GateObservation } from '@moebius/routing';
import { cloneTree, disposeTree, linearForward, runOp, tensor1d } from '@moebius/tensor';
import type { KvCache, ParameterStore, Tensor2D } from '@moebius/tensor';

import type { Block, ParameterGradients } from './block.ts';
import { isSparseLayer, type ModelConfig } from './config.ts';
import { createDenseBlock, createSparseBlock, readMatrices } from './decoder-block.ts';
import { familyOf } from './family.ts';
import {
  type BackwardOptions,
  headId,
  type LossOutput,
  type LossSaved,
  recordLosses,
  takeFinishLoss,
  takeLossBackward,
  type WeightedLoss,
} from './loss.ts';
import { defaultGeneration, type GenerationConfig } from './generation-config.ts';
import { createRotaryHolder, planPositions, type RotaryHolder } from './rotary-holder.ts';
import { type Trunk, trunkForward, type TrunkOutput } from './trunk.ts';

/** Sequences of token ids, one after the other, all of one length. */
export interface TokenBatch {
  /** Int32Array `[T]`, ids of B sequences of S tokens. Only read. */
  readonly ids: Int32Array;
  /** B. Default 1. */
  readonly batch?: number;
}

/** Sequences with their next tokens. */
export interface TrainingBatch extends TokenBatch {
  /** Int32Array `[T]`, the token that follows each position; -1 is not counted. Only read. */
  readonly targets: Int32Array;
}

/** How {@link DecoderModel.forward} runs. */
export interface ForwardOptions {
  /** Keep what backward needs. Default false. */
  readonly training?: boolean;
  /** Continue the sequences held in a cache; not together with `training`. */
  readonly cache?: KvCache;
  /** Sees every gate's decision; tensors are borrowed for the call. Not called during generation. */
  readonly observe?: (layer: number, observation: GateObservation) => void;
}

/** How {@link DecoderModel.loss} runs. */
export interface LossOptions {
  /** Keep what backward needs. Default true. */
  readonly training?: boolean;
  /**
   * Losses on the gates. Default: Hugging Face's pooled load-balance loss with `router_aux_loss_coef` when the
   * configuration says `output_router_logits`, else none.
   */
  readonly balance?: readonly WeightedLoss[];
  /** Coefficient of the z-loss on the logits. Default 0. */
  readonly zLossCoefficient?: number;
  /** Also give the loss of every token. Default false. */
  readonly perToken?: boolean;
}

/** A decoder language model. It owns its parameters and rotary table. */
export interface DecoderModel {
  /** The configuration. */
  readonly config: ModelConfig;
  /** What the model's folder recommends for generation; `generate` takes the end-of-text tokens from it. */
  readonly generation: GenerationConfig;
  /** The weights, by Hugging Face name. */
  readonly parameters: ParameterStore;
  /** Who runs the experts. */
  readonly executor: ExpertExecutor;
  /**
   * Hidden states after the last norm.
   *
   * @returns float32 `[T, D]`, and what backward needs when training; the caller owns both
   */
  forward(input: TokenBatch, options?: ForwardOptions): Task<TrunkOutput>;
  /**
   * Logits of hidden states.
   *
   * @param hidden_TD - float32 `[T, D]`, borrowed
   * @returns float32 `[T, V]`; the caller owns it
   */
  logits(hidden_TD: Tensor2D): Tensor2D;
  /** The loss of a batch; `saved` goes to {@link DecoderModel.backward}. */
  loss(input: TrainingBatch, options?: LossOptions): Task<LossOutput>;
  /** Gradients of a loss, by parameter id; takes `saved` and frees it as it proceeds. The caller owns the gradients. */
  backward(saved: LossSaved, options?: BackwardOptions): Task<ParameterGradients>;
  /** Frees parameters and rotary table. */
  dispose(): void;
}

/** What a block is made from, for {@link ModelOptions.createBlock}. */
export interface BlockContext {
  /** The model. */
  readonly config: ModelConfig;
  /** Where weights are read. */
  readonly parameters: ParameterStore;
  /** Layer index. */
  readonly layer: number;
  /** Place among the sparse layers, from 0; -1 for a dense layer. */
  readonly place: number;
  /** Where the layer's experts live. */
  readonly experts: ExpertSource | null;
  /** Who runs them. */
  readonly executor: ExpertExecutor;
  /** Experts are in the parameter store and nobody asked for an executor: generation may run them directly. */
  readonly direct: boolean;
}

/** What a model is made of. */
export interface ModelOptions {
  /** A parsed configuration. */
  readonly config: ModelConfig;
  /** The weights, under the ids of {@link describeParameters}; the model takes them over. */
  readonly parameters: ParameterStore;
  /** Who runs the experts. Default: the local executor. */
  readonly executor?: ExpertExecutor;
  /** Where experts live. Default: the parameter store. */
  readonly experts?: ExpertSource;
  /** What generation_config.json holds. Default: the special tokens of the configuration. */
  readonly generation?: GenerationConfig;
  /** Makes the block of one layer. Default {@link createDecoderBlock}. */
  readonly createBlock?: (context: BlockContext) => Block;
}

/**
 * Wires a decoder language model.
 *
 * @param options - configuration, weights, and who runs the experts
 * @returns the model; dispose it
 * @throws `configuration` when the executor cannot run pairs
 */
export function createModel(options: ModelOptions): DecoderModel {
  const { config, parameters, executor = createLocalExecutor() } = options;
  assertExecutor(executor);
  const direct = options.executor === undefined && options.experts === undefined;
  const trunk: Trunk = { config, parameters, blocks: createBlocks({ ...options, executor, direct }) };
  const rotary = createRotaryHolder(config);
  const defaultBalance = defaultLosses(config);
  return {
    config,
    generation: options.generation ?? defaultGeneration(config),
    parameters,
    executor,
    forward: (input, settings = {}) => runForward(input, settings, { trunk, rotary }),
    logits: (hidden_TD) => headLogits(hidden_TD, trunk),
    *loss(input, settings = {}) {
      const {
        training = true,
        balance: losses = defaultBalance,
        zLossCoefficient = 0,
        perToken = false,
      } = settings;
      const recorder = recordLosses(losses);
      let forwarded: TrunkOutput;
      try {
        forwarded = yield* runForward(input, { training, observe: recorder.observe }, { trunk, rotary });
      } catch (error) {
        recorder.dispose();
        throw error;
      }
      return takeFinishLoss(trunk, forwarded, {
        targets: input.targets,
        losses,
        recorder,
        zLossCoefficient,
        perToken,
      });
    },
    backward: (saved, settings) => takeLossBackward(trunk, saved, settings),
    dispose: () => {
      rotary.dispose();
      parameters.dispose();
    },
  };
}

/**
 * The block of one layer of a plain decoder: attention, then a dense or a sparse feed-forward.
 *
 * @param context - the layer
 */
export function createDecoderBlock(context: BlockContext): Block {
  const { experts, ...parts } = context;
  return experts === null ? createDenseBlock(parts) : createSparseBlock({ ...parts, experts });
}

interface BlocksOptions extends ModelOptions {
  readonly executor: ExpertExecutor;
  readonly direct: boolean;
}

function createBlocks(options: BlocksOptions): Block[] {
  const { config, parameters, executor, direct, createBlock = createDecoderBlock } = options;
  let place = 0;
  return Array.from({ length: config.num_hidden_layers }, (_, layer) => {
    const sparse = isSparseLayer(config, layer);
    const experts = sparse ? (options.experts ?? storeExperts(config, parameters)) : null;
    const context = { config, parameters, layer, place: sparse ? place : -1, experts, executor, direct };
    if (sparse) place += 1;
    return createBlock(context);
  });
}

/** Experts that live in the parameter store. */
function storeExperts(config: ModelConfig, parameters: ParameterStore): ExpertSource {
  const { names } = familyOf(config);
  const kind = gatedExpert();
  return createResidentSource({
    kinds: Array.from({ length: config.num_experts }, () => kind),
    read: (layer, expert) => ({ ...readMatrices(parameters, names.expert(layer, expert)) }),
  });
}

function assertExecutor(executor: ExpertExecutor): void {
  if (executor.accepts.includes('pairs')) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `executor "${executor.name}": must accept routes of kind pairs, got ${executor.accepts.join(', ')}`,
    details: { executor: executor.name, accepts: [...executor.accepts] },
  });
}

function defaultLosses(config: ModelConfig): readonly WeightedLoss[] {
  if (!config.output_router_logits || config.num_experts === 0) return [];
  return [{ loss: loadBalanceLoss({ pooling: 'pooled' }), coefficient: config.router_aux_loss_coef }];
}

interface ForwardScope {
  readonly trunk: Trunk;
  readonly rotary: RotaryHolder;
}

function* runForward(input: TokenBatch, options: ForwardOptions, scope: ForwardScope): Task<TrunkOutput> {
  const { ids, batch = cacheBatch(options.cache) } = input;
  const { training = false, cache = null, observe = () => undefined } = options;
  if (training && cache !== null) throw trainingWithCache();
  const lengths = cache === null ? new Int32Array(batch) : cache.lengths(0);
  const { positions, end } = planPositions(ids.length, lengths, scope.trunk.config);
  const table = cloneTree(scope.rotary.tableFor(end));
  const positions_T = tensor1d(positions, 'int32');
  try {
    const shared = { batch, positions: positions_T, hostPositions: positions, table };
    return yield* trunkForward(ids, scope.trunk, { ...shared, training, cache, observe });
  } finally {
    disposeTree([positions_T, table]);
  }
}

function cacheBatch(cache: KvCache | undefined): number {
  return cache === undefined ? 1 : cache.options.batch;
}

function trainingWithCache(): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: 'forward: training must see whole sequences, got a cache (leave out one of the two)',
  });
}

function headLogits(hidden_TD: Tensor2D, trunk: Trunk): Tensor2D {
  return runOp('logits', () => {
    const { value, saved } = linearForward(hidden_TD, trunk.parameters.read(headId(trunk)) as Tensor2D);
    disposeTree(saved);
    return value;
  });
}
