/**
 * @file The decoder language model: parts wired together, explicit forward and backward as tasks.
 *
 * ```
 * ids ─► embedding ─► block 0 ─► … ─► block L-1 ─► norm ─► hidden ─► head ─► logits ─► loss
 *                     attention, then dense feed-forward or gate ─► executor ─► sum
 * ```
 * Letters: `T` tokens = B·S · `D` model width · `V` vocabulary · `L` layers.
 */
import { MoebiusError, type Rng, type Task } from '@moebius/core';
import { createLocalExecutor, createResidentSource, loadBalanceLoss } from '@moebius/routing';
import type {
  ExpertExecutor,
  ExpertKind,
  ExpertSource,
  GateObservation,
  Router,
  RouterPhase,
} from '@moebius/routing';
import { assertCount, cloneTree, disposeTree, linearForward, runOp, tensor1d } from '@moebius/tensor';
import type { KvCache, ParameterStore, Tensor2D } from '@moebius/tensor';

import type { Block, ParameterGradients } from './block.ts';
import type { ModelConfig } from './config.ts';
import { createDenseBlock, createSparseBlock } from './decoder-block.ts';
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
import { describeParts, type ModelParts, type PartsChoice, resolveParts } from './model-parts.ts';
import { createRotaryHolder, planPositions, type RotaryHolder } from './rotary-holder.ts';
import { phaseOf } from './pass-phase.ts';
import { createRouterState, type RouterState } from './router-state.ts';
import { expertIds, readParts } from './sparse-names.ts';
import { type Trunk, trunkForward, type TrunkOutput } from './trunk.ts';

/** Sequences of token ids, one after the other, all of one length. */
export interface TokenBatch {
  /** Int32Array `[T]`, ids of B sequences of S tokens. Only read. */
  readonly ids: Int32Array;
  /** B. Default 1. */
  readonly batch?: number;
  /** Uint8Array `[T]`: 0 for padding, which is not routed and not in the balance losses. Only read. */
  readonly mask?: Uint8Array;
  /** Int32Array `[T]`, domain, task or language of each token, for routers that go by it. Only read. */
  readonly domain?: Int32Array;
}

/** Sequences with their next tokens. */
export interface TrainingBatch extends TokenBatch {
  /** Int32Array `[T]`, the token that follows each position; -1 is not counted. Only read. */
  readonly targets: Int32Array;
}

/** What a pass is for, where a router asks. */
export interface PassOptions {
  /** Default: `train` when what backward needs is kept, `prefill` or `decode` with a cache, else `evaluate`. */
  readonly phase?: RouterPhase;
  /** For this pass of this step: the same generator gives the same pass again. Not advanced. Absent: nothing is random. */
  readonly rng?: Rng;
  /** Training step, for routers with a schedule. */
  readonly step?: number;
}

/** How {@link DecoderModel.forward} runs. */
export interface ForwardOptions extends PassOptions {
  /** Keep what backward needs. Default false. */
  readonly training?: boolean;
  /** Continue the sequences held in a cache; not together with `training`. */
  readonly cache?: KvCache;
  /** Sees every gate's decision; tensors are borrowed for the call. Not called during generation. */
  readonly observe?: (layer: number, observation: GateObservation) => void;
}

/** How {@link DecoderModel.loss} runs. */
export interface LossOptions extends PassOptions {
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
  /** Routers and kinds of experts. */
  readonly parts: ModelParts;
  /** What routers keep beside trained tensors; `advance` it after each training step. */
  readonly routerState: RouterState;
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
  /** The same weights behind other routers, for as long as this model lives; `parts` stay. Its `dispose` frees only what it made. */
  aroundRouters(around: AroundRouter): DecoderModel;
  /** Frees parameters and rotary table. */
  dispose(): void;
}

/** What runs in the place of a router, usually the router with something around it (`withCapacity`); same parameters and buffers. */
export type AroundRouter = (router: Router, layer: number) => Router;

/** What a block is made from, for {@link ModelOptions.createBlock}. */
export interface BlockContext {
  /** The model. */
  readonly config: ModelConfig;
  /** Where weights are read. */
  readonly parameters: ParameterStore;
  /** Layer index. */
  readonly layer: number;
  /** Place among the layers that route pairs, from 0; -1 for any other layer. */
  readonly place: number;
  /** Where the layer's experts live. */
  readonly experts: ExpertSource | null;
  /** Who runs them. */
  readonly executor: ExpertExecutor;
  /** Experts are in the parameter store and nobody asked for an executor: generation may run them directly. */
  readonly direct: boolean;
  /** How tokens choose experts; null for a dense layer. */
  readonly router: Router | null;
  /** Of every router of the model. */
  readonly routerState: RouterState;
  /** The kind of each expert; empty for a dense layer. */
  readonly kinds: readonly ExpertKind[];
}

/** What a model is made of. */
export interface ModelOptions extends PartsChoice {
  /** A parsed configuration. */
  readonly config: ModelConfig;
  /** The weights, under the ids of {@link describeParameters}; the model takes them over. */
  readonly parameters: ParameterStore;
  /** Who runs the experts. Default: the local executor. */
  readonly executor?: ExpertExecutor;
  /** Where experts live. Default: the parameter store. */
  readonly source?: ExpertSource;
  /** First values of router buffers, by their names in a file. Default: as the routers say. */
  readonly buffers?: { readonly [id: string]: Float32Array };
  /** Router buffers shared with another model of the same parts (averaged weights). Default: its own. */
  readonly routerState?: RouterState;
  /** What generation_config.json holds. Default: the special tokens of the configuration. */
  readonly generation?: GenerationConfig;
  /** What runs in the place of each router. It is not part of the model: `parts` and saved files do not know it. Default: the router. */
  readonly aroundRouter?: AroundRouter | undefined;
  /** Makes the block of one layer. Default {@link createDecoderBlock}. */
  readonly createBlock?: (context: BlockContext) => Block;
}

/**
 * Wires a decoder language model.
 *
 * @param options - configuration, weights, routers, kinds of experts, and who runs them
 * @returns the model; dispose it
 * @throws `configuration` when the executor cannot run what a router gives, or when the configuration names parts that
 * are not given
 * @example
 * ```ts
 * import { createRng } from '@moebius/core';
 * import { plainExpert } from '@moebius/routing';
 *
 * declare const config: ModelConfig;
 * const parts = { experts: plainExpert({ activation: 'relu' }) };
 * const parameters = initialiseParameters(config, createRng(1), parts);
 * const model = createModel({ config, parameters, ...parts });
 * ```
 */
export function createModel(options: ModelOptions): DecoderModel {
  const parts = resolveParts(options.config, options);
  return wireModel(options, parts, () => options.parameters.dispose());
}

function wireModel(options: ModelOptions, parts: ModelParts, freeParameters: () => void): DecoderModel {
  const { parameters, executor = createLocalExecutor() } = options;
  const config = withParts(options.config, parts);
  assertExecutor(executor, parts);
  const routerState = options.routerState ?? createRouterState(config, parts, options.buffers);
  const direct = options.executor === undefined && options.source === undefined;
  const made = { ...options, config, parts, routerState, executor, direct };
  const trunk: Trunk = { config, parameters, blocks: createBlocks(made) };
  const rotary = createRotaryHolder(config);
  const defaultBalance = defaultLosses(config);
  return {
    config,
    generation: options.generation ?? defaultGeneration(config),
    parameters,
    executor,
    parts,
    routerState,
    forward: (input, settings = {}) => runForward(input, settings, { trunk, rotary }),
    logits: (hidden_TD) => headLogits(hidden_TD, trunk),
    *loss(input, settings = {}) {
      const {
        training = true,
        balance: losses = defaultBalance,
        zLossCoefficient = 0,
        perToken = false,
        ...pass
      } = settings;
      const recorder = recordLosses(losses);
      let forwarded: TrunkOutput;
      try {
        const forwardOptions = { ...pass, training, observe: recorder.observe };
        forwarded = yield* runForward(input, forwardOptions, { trunk, rotary });
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
    aroundRouters: (around) =>
      wireModel(
        { ...options, routerState, aroundRouter: outside(around, options.aroundRouter) },
        parts,
        () => {},
      ),
    dispose: () => {
      rotary.dispose();
      freeParameters();
    },
  };
}

/**
 * The block of one layer of a plain decoder: attention, then a dense or a sparse feed-forward.
 *
 * @param context - the layer
 */
export function createDecoderBlock(context: BlockContext): Block {
  const { experts, router, ...parts } = context;
  if (experts === null || router === null) return createDenseBlock(parts);
  return createSparseBlock({ ...parts, experts, router });
}

/** One around the other. */
function outside(outer: AroundRouter, inner: AroundRouter | undefined): AroundRouter {
  return inner === undefined ? outer : (router, layer) => outer(inner(router, layer), layer);
}

interface BlocksOptions extends ModelOptions {
  readonly executor: ExpertExecutor;
  readonly direct: boolean;
  readonly parts: ModelParts;
  readonly routerState: RouterState;
}

function createBlocks(options: BlocksOptions): Block[] {
  const {
    config,
    parameters,
    executor,
    direct,
    parts,
    routerState,
    aroundRouter = (router) => router,
    createBlock = createDecoderBlock,
  } = options;
  let place = 0;
  return Array.from({ length: config.num_hidden_layers }, (_, layer) => {
    const own = parts.routers[layer] ?? null;
    const router = own === null ? null : aroundRouter(own, layer);
    const kinds = parts.experts[layer] ?? [];
    const experts =
      router === null ? null : (options.source ?? storeExperts(config, parameters, kinds, layer));
    const observed = router?.route === 'pairs';
    const block = { config, parameters, layer, place: observed ? place : -1, executor, direct };
    if (observed) place += 1;
    return createBlock({ ...block, router, routerState, kinds, experts });
  });
}

/** Experts of one layer that live in the parameter store. */
function storeExperts(
  config: ModelConfig,
  parameters: ParameterStore,
  kinds: readonly ExpertKind[],
  layer: number,
): ExpertSource {
  const ids = expertIds(config, layer, kinds);
  return createResidentSource({ kinds, read: (_layer, expert) => readParts(parameters, ids[expert] ?? {}) });
}

/** The configuration, with the parts named that are not the family's own. */
function withParts(config: ModelConfig, parts: ModelParts): ModelConfig {
  const { moebius: _named, ...rest } = config;
  const moebius = describeParts(config, parts);
  if (moebius === undefined && config.moebius === undefined) return config;
  return Object.freeze(moebius === undefined ? rest : { ...rest, moebius });
}

function assertExecutor(executor: ExpertExecutor, { routers }: ModelParts): void {
  for (const [layer, router] of routers.entries()) {
    if (router === null || executor.accepts.includes(router.route)) continue;
    throw new MoebiusError({
      code: 'configuration',
      message: `layers[${layer}] executor "${executor.name}": must accept routes of kind ${router.route}, which router "${router.name}" gives, got ${executor.accepts.join(', ')} (pass an executor that does)`,
      details: { layer, executor: executor.name, router: router.name, accepts: [...executor.accepts] },
    });
  }
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
  const { training = false, cache = null, observe = () => undefined, rng, step } = options;
  const { mask, domain } = input;
  if (training && cache !== null) throw trainingWithCache();
  if (mask !== undefined) assertCount(mask.length, ids.length, 'mask length');
  if (domain !== undefined) assertCount(domain.length, ids.length, 'domain length');
  const phase = options.phase ?? phaseOf(ids.length, { training, cache, batch });
  const lengths = cache === null ? new Int32Array(batch) : cache.lengths(0);
  const { positions, end } = planPositions(ids.length, lengths, scope.trunk.config);
  const table = cloneTree(scope.rotary.tableFor(end));
  const positions_T = tensor1d(positions, 'int32');
  try {
    const shared = { ids, batch, positions: positions_T, hostPositions: positions, table };
    const asked = {
      phase,
      ...(rng === undefined ? {} : { rng }),
      ...(step === undefined ? {} : { step }),
      ...(mask === undefined ? {} : { mask }),
      ...(domain === undefined ? {} : { domain }),
    };
    return yield* trunkForward(ids, scope.trunk, { ...shared, ...asked, training, cache, observe });
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
