/**
 * @file The blocks of a plain pre-norm decoder: attention, then a dense or a sparse feed-forward.
 *
 * Weights are read from the parameter store at the start of each pass and borrowed for its length. Taps are
 * those of routers.
 *
 * Letters: `T` tokens · `D` model width.
 */
import { MoebiusError, type Task } from '@moebius/core';
import type {
  ExpertExecutor,
  ExpertKind,
  ExpertSource,
  GateConfig,
  Router,
  RouterBuffers,
} from '@moebius/routing';
import { add, disposeTree, rmsNormBackward, rmsNormForward, routedBlock, runOp } from '@moebius/tensor';
import type {
  GatedWeights,
  ParameterStore,
  RmsNormSaved,
  RoutedBlockWeights,
  Tensor1D,
  Tensor2D,
} from '@moebius/tensor';

import {
  attentionBlockCached,
  attentionBlockForward,
  type AttentionBlockSaved,
  type AttentionWeights,
  takeAttentionBackward,
} from './attention-block.ts';
import type {
  Block,
  BlockInputGradient,
  BlockOutput,
  ForwardPass,
  ParameterGradients,
  Taps,
} from './block.ts';
import type { ModelConfig } from './config.ts';
import { type DenseBlockSaved, denseBlockForward, takeDenseBackward } from './dense-block.ts';
import { familyOf, type FeedForwardNames, type LayerNames } from './family.ts';
import {
  type MoeBackwardScope,
  moeForward,
  type MoeGradients,
  type MoeLayer,
  type MoeOutput,
  type MoeSaved,
  takeMoeBackward,
} from './moe-block.ts';
import type { RouterState } from './router-state.ts';
import { createSharedBlock, type SharedBlock, type SharedJoin, type SharedSaved } from './shared-block.ts';
import { createSparseNames, readParts } from './sparse-names.ts';

/** What a decoder block is made of. */
export interface DecoderBlockParts {
  /** The model. */
  readonly config: ModelConfig;
  /** Where weights are read. */
  readonly parameters: ParameterStore;
  /** Layer index. */
  readonly layer: number;
}

/** What a sparse decoder block is made of. */
export interface SparseBlockParts extends DecoderBlockParts {
  /** Place among the sparse layers, from 0. */
  readonly place: number;
  /** Where the layer's experts live. */
  readonly experts: ExpertSource;
  /** Who runs them. */
  readonly executor: ExpertExecutor;
  /** Run resident experts without the executor during generation. */
  readonly direct: boolean;
  /** How tokens choose experts. */
  readonly router: Router;
  /** Of every router of the model; read at each pass. */
  readonly routerState: RouterState;
  /** The kind of each expert. */
  readonly kinds: readonly ExpertKind[];
}

interface DenseSaved {
  readonly attention: AttentionBlockSaved | null;
  readonly dense: DenseBlockSaved;
}

interface SparseSaved {
  readonly attention: AttentionBlockSaved | null;
  readonly norm: RmsNormSaved;
  readonly moe: MoeSaved | null;
  readonly shared: SharedSaved | null;
}

/**
 * A layer with a dense feed-forward.
 *
 * @param parts - configuration, weights and place
 */
export function createDenseBlock(parts: DecoderBlockParts): Block {
  const { config, parameters, layer } = parts;
  const { names } = familyOf(config);
  const own = names.layer(layer);
  const dense = names.dense(layer);
  return {
    *forward({ x }, pass): Task<BlockOutput> {
      const attended = attend(x, own, { ...parts, pass });
      try {
        const weights = {
          norm: parameters.read(own.postAttentionNorm) as Tensor1D,
          matrices: readMatrices(parameters, dense),
        };
        const out = denseBlockForward(attended.value, weights, config.rms_norm_eps);
        const saved: DenseSaved = { attention: attended.saved, dense: out.saved };
        return { y: out.value, taps: {}, saved: keepWhenTraining(saved, pass) };
      } catch (error) {
        disposeTree(attended.saved);
        throw error;
      } finally {
        attended.value.dispose();
      }
    },
    *takeBackward(saved, { dy }): Task<BlockInputGradient> {
      const { attention, dense: denseSaved } = saved as DenseSaved;
      try {
        const { dx, weights } = takeDenseBackward(denseSaved, dy);
        const gradients = {
          [own.postAttentionNorm]: weights.norm,
          ...namedMatrices(dense, weights.matrices),
        };
        return attentionGradient(attention, dx, { own, gradients });
      } finally {
        disposeTree(saved);
      }
    },
  };
}

/**
 * A layer that routes to experts.
 *
 * @param parts - configuration, weights, place, router, experts and executor
 */
export function createSparseBlock(parts: SparseBlockParts): Block {
  const { config, parameters, layer, place, experts, executor, direct, router } = parts;
  const names = createSparseNames(parts);
  const { own } = names;
  const buffers = (): RouterBuffers => parts.routerState.buffers(layer);
  const moeLayer: MoeLayer = { layer, place, router, buffers, experts, executor };
  const shared = createSharedBlock({ config, parameters, layer, topK: router.topK });
  const fused = direct && shared === null ? fusedGate(router, parts.kinds) : null;
  return {
    *forward({ x, taps }, pass): Task<BlockOutput> {
      const attended = attend(x, own, { ...parts, pass });
      const weight = parameters.read(own.postAttentionNorm) as Tensor1D;
      if (fused !== null && pass.cache !== null && pass.mask === undefined) {
        return inferRouted(attended.value, fused, {
          norm: weight,
          router: names.readRouter()['weight'] as Tensor2D,
          experts: names.experts.map((ids) => readParts(parameters, ids) as unknown as GatedWeights),
          epsilon: config.rms_norm_eps,
        });
      }
      const norm = rmsNormForward(attended.value, weight, { epsilon: config.rms_norm_eps });
      try {
        const input = { routed: norm.value, shared: norm.value, router: names.readRouter(), taps };
        const moe = yield* moeForward(input, moeLayer, pass);
        const joined = joinShared(shared, { x: norm.value, moe, pass });
        const y = add<Tensor2D>(attended.value, joined.y);
        joined.y.dispose();
        const kept = { attention: attended.saved, norm: norm.saved, moe: moe.saved, shared: joined.saved };
        return { y, taps: moe.taps, saved: keepWhenTraining<SparseSaved>(kept, pass) };
      } catch (error) {
        disposeTree([attended.saved, norm.saved]);
        throw error;
      } finally {
        disposeTree([attended.value, norm.value]);
      }
    },
    *takeBackward(saved, { dy, dtaps }, pass): Task<BlockInputGradient> {
      const { attention, norm, ...ran } = saved as SparseSaved;
      try {
        const scope = { layer: moeLayer, pass, router: names.readRouter(), dtaps };
        const { parts: read, routed, beside } = yield* takeExpertsBackward(ran, dy, { shared, scope });
        const { dx, dweight } = takeNormGradient(norm, dy, read);
        const gradients = { [own.postAttentionNorm]: dweight, ...names.gradients(routed), ...beside };
        return attentionGradient(attention, dx, { own, gradients, dtaps: routed.dtaps });
      } finally {
        disposeTree(saved);
      }
    },
  };
}

/** Routed and shared experts: gradients of what they read, of the routed part, and of the shared expert by id. */
function* takeExpertsBackward(
  { moe, shared: saved }: Pick<SparseSaved, 'moe' | 'shared'>,
  dy: Tensor2D,
  { shared, scope }: { readonly shared: SharedBlock | null; readonly scope: MoeBackwardScope },
): Task<{
  readonly parts: readonly [Tensor2D, Tensor2D | undefined];
  readonly routed: MoeGradients;
  readonly beside: ParameterGradients;
}> {
  if (moe === null) throw notTraining();
  const beside = shared?.takeBackward(saved, dy);
  try {
    const routed = yield* takeMoeBackward(moe, beside?.drouted ?? dy, scope);
    return { parts: [routed.drouted, beside?.dx], routed, beside: beside?.gradients ?? {} };
  } catch (error) {
    disposeTree([beside?.dx, beside?.gradients]);
    throw error;
  } finally {
    beside?.drouted.dispose();
  }
}

/** Through the norm that router and experts read, the residual path added; `parts` `[T, D]` are taken. */
function takeNormGradient(
  norm: RmsNormSaved,
  dy: Tensor2D,
  parts: readonly [Tensor2D, Tensor2D | undefined],
): { readonly dx: Tensor2D; readonly dweight: Tensor1D } {
  try {
    return runOp('sparseBlock.norm', () => {
      const [routed, shared] = parts;
      const gradient = rmsNormBackward(norm, shared === undefined ? routed : add<Tensor2D>(routed, shared));
      return { dx: add<Tensor2D>(dy, gradient.dx), dweight: gradient.dweight };
    });
  } finally {
    disposeTree(parts);
  }
}

/** What the experts gave, with the shared one's; `moe.y` is taken. */
function joinShared(
  shared: SharedBlock | null,
  { x, moe, pass }: { readonly x: Tensor2D; readonly moe: MoeOutput; readonly pass: ForwardPass },
): SharedJoin {
  if (shared === null) return { y: moe.y, saved: null };
  try {
    return shared.forward(x, moe.y, pass);
  } catch (error) {
    disposeTree([moe.saved, moe.taps]);
    throw error;
  } finally {
    moe.y.dispose();
  }
}

/** The gate of a router, when one inference kernel knows it together with these experts. */
function fusedGate({ gate }: Router, kinds: readonly ExpertKind[]): GateConfig | null {
  if (gate === undefined || !isPlainSoftmax(gate)) return null;
  return kinds.every(({ name }) => name === 'gated-silu') ? gate : null;
}

/** Whether one inference kernel knows this gate: a softmax over all experts, then top-k. */
function isPlainSoftmax(gate: GateConfig): boolean {
  return (
    gate.score === 'softmax' &&
    !gate.scoreAfterTopK &&
    !gate.selectionBias &&
    !gate.logitBias &&
    gate.groups === null
  );
}

/** Norm, gate, experts and residual in one operation, with nothing saved; `x_TD` is taken. */
function inferRouted(
  x_TD: Tensor2D,
  gate: GateConfig,
  weights: RoutedBlockWeights & { readonly epsilon: number },
): BlockOutput {
  try {
    const { topK, renormalise: normalize, scale } = gate;
    const out = routedBlock(x_TD, weights, { topK, normalize, scale, epsilon: weights.epsilon });
    disposeTree([out.ids, out.weights]);
    return { y: out.y, taps: {}, saved: null };
  } finally {
    x_TD.dispose();
  }
}

interface AttendScope extends DecoderBlockParts {
  readonly pass: ForwardPass;
}

/** Attention over the sequence, or over the cache during generation. */
function attend(
  x_TD: Tensor2D,
  names: LayerNames,
  scope: AttendScope,
): { value: Tensor2D; saved: AttentionBlockSaved | null } {
  const { parameters, pass, layer, config } = scope;
  const weights: AttentionWeights = {
    inputNorm: parameters.read(names.inputNorm) as Tensor1D,
    query: parameters.read(names.query) as Tensor2D,
    key: parameters.read(names.key) as Tensor2D,
    value: parameters.read(names.value) as Tensor2D,
    queryNorm: parameters.read(names.queryNorm) as Tensor1D,
    keyNorm: parameters.read(names.keyNorm) as Tensor1D,
    output: parameters.read(names.output) as Tensor2D,
  };
  const { cache } = pass;
  if (cache !== null) {
    return { value: attentionBlockCached(x_TD, weights, { config, pass, layer, cache }), saved: null };
  }
  const { value, saved } = attentionBlockForward(x_TD, weights, { config, pass });
  return { value, saved: keepWhenTraining(saved, pass) };
}

function keepWhenTraining<S>(saved: S, pass: ForwardPass): S | null {
  if (pass.training) return saved;
  disposeTree(saved);
  return null;
}

/** The attention half of a block's backward; `dx_TD` is taken. */
function attentionGradient(
  saved: AttentionBlockSaved | null,
  dx_TD: Tensor2D,
  rest: { readonly own: LayerNames; readonly gradients: ParameterGradients; readonly dtaps?: Taps },
): BlockInputGradient {
  const { own, gradients, dtaps = {} } = rest;
  try {
    if (saved === null) throw notTraining();
    const { dx, weights } = takeAttentionBackward(saved, dx_TD);
    const named: ParameterGradients = {
      [own.inputNorm]: weights.inputNorm,
      [own.query]: weights.query,
      [own.key]: weights.key,
      [own.value]: weights.value,
      [own.queryNorm]: weights.queryNorm,
      [own.keyNorm]: weights.keyNorm,
      [own.output]: weights.output,
    };
    return { dx, dtaps, gradients: { ...gradients, ...named } };
  } catch (error) {
    disposeTree([gradients, dtaps]);
    throw error;
  } finally {
    dx_TD.dispose();
  }
}

/**
 * The three matrices of a feed-forward.
 *
 * @param parameters - where they are read
 * @param names - their ids
 * @returns borrowed, each float32 `[F, D]`
 */
export function readMatrices(parameters: ParameterStore, names: FeedForwardNames): GatedWeights {
  return {
    gate: parameters.read(names.gate) as Tensor2D,
    up: parameters.read(names.up) as Tensor2D,
    down: parameters.read(names.down) as Tensor2D,
  };
}

function namedMatrices(names: FeedForwardNames, matrices: GatedWeights): ParameterGradients {
  return { [names.gate]: matrices.gate, [names.up]: matrices.up, [names.down]: matrices.down };
}

function notTraining(): MoebiusError {
  return new MoebiusError({
    code: 'ownership',
    message:
      'block.takeBackward: must follow a training forward, got nothing saved (pass { training: true })',
  });
}
