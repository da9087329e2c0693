/**
 * @file The shared expert of a sparse layer: runs on every token, and joins what the routed experts gave.
 *
 * Letters: `T` tokens · `D` model width.
 */
import { MoebiusError } from '@moebius/core';
import { add, disposeTree, runOp } from '@moebius/tensor';
import type { ParameterStore, Tensor, Tensor2D } from '@moebius/tensor';

import type { ForwardPass, ParameterGradients } from './block.ts';
import type { ModelConfig } from './config.ts';
import { familyOf } from './family.ts';
import { sharedPartsOf } from './shared-parts.ts';
import { type PartIds, readParts } from './sparse-names.ts';

/** What {@link SharedBlock.takeBackward} needs. */
export interface SharedSaved {
  /** Of the expert. */
  readonly expert: unknown;
  /** Of the combiner. */
  readonly combiner: unknown;
}

/** What leaves {@link SharedBlock.forward}. The caller owns both. */
export interface SharedJoin {
  /** float32 `[T, D]` */
  readonly y: Tensor2D;
  /** Null unless training. */
  readonly saved: SharedSaved | null;
}

/** Gradients of a shared expert; the caller owns them. */
export interface SharedBlockGradients {
  /** float32 `[T, D]`, of what the routed experts gave. */
  readonly drouted: Tensor2D;
  /** float32 `[T, D]`, of the rows that the shared expert and the combiner read. */
  readonly dx: Tensor2D;
  /** By parameter id. */
  readonly gradients: ParameterGradients;
}

/** The shared expert of one layer. */
export interface SharedBlock {
  /** Joins the shared expert of `x` `[T, D]` with `routed` `[T, D]`; both are borrowed. */
  forward(x: Tensor2D, routed: Tensor2D, pass: ForwardPass): SharedJoin;
  /** Gradients of one forward. Frees `saved`; `dy` `[T, D]` is borrowed. */
  takeBackward(saved: SharedSaved | null, dy: Tensor2D): SharedBlockGradients;
}

/** Where a shared expert is. */
export interface SharedBlockOptions {
  /** The model. */
  readonly config: ModelConfig;
  /** Where weights are read. */
  readonly parameters: ParameterStore;
  /** Layer index. */
  readonly layer: number;
  /** Experts of a token `K`. */
  readonly topK: number;
}

/**
 * The shared expert of a layer, when its configuration names one.
 *
 * @param options - model, weights, layer
 */
export function createSharedBlock(options: SharedBlockOptions): SharedBlock | null {
  const { config, parameters, layer, topK } = options;
  const shared = sharedPartsOf(config, layer);
  if (shared === null) return null;
  const { kind, combiner } = shared;
  const { names } = familyOf(config);
  const partIds = idsOf(Object.keys(kind.parts), (part) => names.sharedPart(layer, part));
  const gateIds = idsOf(Object.keys(combiner.parameterShapes(config.hidden_size)), (name) =>
    names.sharedGate(layer, name),
  );
  return {
    forward: (x, routed, pass) =>
      runOp('sharedExpert', () => {
        const expert = kind.forward(x, readParts(parameters, partIds));
        const { value, saved } = combiner.forward({
          x,
          routed,
          shared: expert.value,
          parameters: readParts(parameters, gateIds),
          topK,
          ...(pass.rng === undefined ? {} : { rng: pass.rng.fork(layer).fork('shared') }),
        });
        return { y: value, saved: pass.training ? { expert: expert.saved, combiner: saved } : null };
      }),
    takeBackward: (saved, dy) => {
      if (saved === null) throw notTraining();
      try {
        return runOp('sharedExpert.backward', () => {
          const joined = combiner.backward(saved.combiner, { dy });
          const expert = kind.backward(saved.expert, joined.dshared);
          const gradients = {
            ...byId(partIds, expert.parameters),
            ...byId(gateIds, joined.parameters),
          };
          return { drouted: joined.drouted, dx: add<Tensor2D>(joined.dx, expert.dx), gradients };
        });
      } finally {
        disposeTree(saved);
      }
    },
  };
}

function idsOf(names: readonly string[], id: (name: string) => string): PartIds {
  return Object.fromEntries(names.map((name) => [name, id(name)]));
}

function byId(ids: PartIds, tensors: { readonly [name: string]: Tensor }): ParameterGradients {
  return Object.fromEntries(Object.entries(ids).map(([name, id]) => [id, tensors[name] as Tensor]));
}

function notTraining(): MoebiusError {
  return new MoebiusError({
    code: 'ownership',
    message:
      'sharedExpert.takeBackward: must follow a training forward, got nothing saved (pass { training: true })',
  });
}
