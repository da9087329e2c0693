/**
 * @file The trunk of a decoder: embedding, blocks, last norm, and back. Backward frees what forward saved, layer by
 * layer, so its peak is forward's.
 *
 * Letters: `T` tokens = B·S · `D` model width · `V` vocabulary.
 */
import { MoebiusError, type Task } from '@moebius/core';
import {
  add,
  disposeTree,
  embeddingBackward,
  embeddingForward,
  rmsNormBackward,
  rmsNormForward,
} from '@moebius/tensor';
import type {
  EmbeddingSaved,
  ParameterStore,
  RmsNormSaved,
  Tensor,
  Tensor1D,
  Tensor2D,
} from '@moebius/tensor';

import type { BackwardPass, Block, ForwardPass, ParameterGradients, Taps } from './block.ts';
import type { ModelConfig } from './config.ts';
import { familyOf } from './family.ts';

/** What a trunk is made of. */
export interface Trunk {
  /** The model. */
  readonly config: ModelConfig;
  /** Where weights are read. */
  readonly parameters: ParameterStore;
  /** One per layer. */
  readonly blocks: readonly Block[];
}

/** What the trunk's backward needs. */
export interface TrunkSaved {
  /** Of the embedding. */
  readonly embedding: EmbeddingSaved;
  /** Per layer: what the block saved, and the names of the taps it offered. */
  readonly blocks: readonly SavedBlock[];
  /** Of the last norm. */
  readonly norm: RmsNormSaved;
}

/** What one block left behind. */
export interface SavedBlock {
  /** What it saved. */
  readonly saved: unknown;
  /** Names of the taps it offered. */
  readonly offered: readonly string[];
}

/** What leaves a trunk. The caller owns both. */
export interface TrunkOutput {
  /** float32 `[T, D]`, after the last norm. */
  readonly hidden: Tensor2D;
  /** Null unless training. */
  readonly saved: TrunkSaved | null;
}

/**
 * Runs embedding, blocks and last norm.
 *
 * @param ids - int32 `[T]`, B sequences one after the other
 * @param trunk - the model's parts
 * @param pass - what blocks are handed
 * @returns float32 `[T, D]` and what backward needs; the caller owns both
 */
export function* trunkForward(ids: Int32Array, trunk: Trunk, pass: ForwardPass): Task<TrunkOutput> {
  const { config, parameters, blocks } = trunk;
  const { names } = familyOf(config);
  const embedded = embeddingForward(parameters.read(names.embedding) as Tensor2D, ids);
  const savedBlocks: { saved: unknown; offered: readonly string[] }[] = [];
  let x: Tensor2D = embedded.value;
  let taps: Taps = {};
  try {
    for (const block of blocks) {
      const out = yield* block.forward({ x, taps }, pass);
      savedBlocks.push({ saved: out.saved, offered: Object.keys(out.taps) });
      const replaced = Object.keys(out.taps).map((name) => taps[name]);
      taps = { ...taps, ...out.taps };
      disposeTree([x, replaced]);
      x = out.y;
    }
    const weight = parameters.read(names.finalNorm) as Tensor1D;
    const norm = rmsNormForward(x, weight, { epsilon: config.rms_norm_eps });
    if (pass.training) {
      return {
        hidden: norm.value,
        saved: { embedding: embedded.saved, blocks: savedBlocks, norm: norm.saved },
      };
    }
    disposeTree([norm.saved, embedded.saved]);
    return { hidden: norm.value, saved: null };
  } catch (error) {
    disposeTree([embedded.saved, savedBlocks]);
    throw error;
  } finally {
    disposeTree([x, taps]);
  }
}

/**
 * Gradients of {@link trunkForward}. Frees `saved` as it proceeds, and all of it when it fails.
 *
 * @param saved - taken
 * @param dhidden_TD - float32 `[T, D]`, borrowed
 * @param scope - the model's parts, and what blocks are handed
 * @returns gradients by parameter id; the caller owns them
 */
export function* takeTrunkBackward(
  saved: TrunkSaved,
  dhidden_TD: Tensor2D,
  scope: { readonly trunk: Trunk; readonly pass: BackwardPass },
): Task<ParameterGradients> {
  const { trunk, pass } = scope;
  const { names } = familyOf(trunk.config);
  const gradients: { [id: string]: Tensor } = {};
  const norm = rmsNormBackward(saved.norm, dhidden_TD);
  gradients[names.finalNorm] = norm.dweight;
  let dx: Tensor2D = norm.dx;
  let dtaps: { [name: string]: Tensor2D } = {};
  try {
    disposeTree(saved.norm);
    for (const [layer, block] of [...trunk.blocks.entries()].toReversed()) {
      const entry = saved.blocks[layer];
      if (entry === undefined) throw lostLayer(layer);
      const { mine, rest } = splitTaps(dtaps, entry.offered);
      const out = yield* block.takeBackward(entry.saved, { dy: dx, dtaps: mine }, pass);
      disposeTree([dx, mine]);
      dx = out.dx;
      Object.assign(gradients, out.gradients);
      dtaps = addTaps(rest, out.dtaps);
    }
    gradients[names.embedding] = embeddingBackward(saved.embedding, dx).dtable;
    return gradients;
  } catch (error) {
    disposeTree(gradients);
    throw error;
  } finally {
    disposeTree([dx, dtaps, saved]);
  }
}

/** The gradients of the taps a block offered, and the others. */
function splitTaps(
  dtaps: Taps,
  offered: readonly string[],
): { mine: { [name: string]: Tensor2D }; rest: { [name: string]: Tensor2D } } {
  const entries = Object.entries(dtaps);
  return {
    mine: Object.fromEntries(entries.filter(([name]) => offered.includes(name))),
    rest: Object.fromEntries(entries.filter(([name]) => !offered.includes(name))),
  };
}

/** Adds up gradients of the same tap; both sides are taken. */
function addTaps(sum: { [name: string]: Tensor2D }, more: Taps): { [name: string]: Tensor2D } {
  for (const [name, gradient] of Object.entries(more)) {
    const before = sum[name];
    if (before === undefined) sum[name] = gradient;
    else {
      sum[name] = add<Tensor2D>(before, gradient);
      disposeTree([before, gradient]);
    }
  }
  return sum;
}

function lostLayer(layer: number): MoebiusError {
  return new MoebiusError({
    code: 'internal',
    message: `internal: layers[${layer}] must have saved something, got nothing`,
    details: { layer },
  });
}
