/**
 * @file The stages of a token-choice gate, as `composeRouter` puts them together.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `W` columns of the logits (`E`, and null experts after them), `N` routed pairs.
 */
import type { Rng } from '@moebius/core';
import type { Forward, Tensor1D, Tensor2D } from '@moebius/tensor';

import type { InitialRequest, RouterBuffers, RouterLoad, RouterOptions } from '../define-router.ts';
import type { RouterParameters } from '../define-router.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import type { GateScore } from '../gate-config.ts';

/** Shapes by the names of tensors. */
export interface NamedShapes {
  readonly [name: string]: readonly number[];
}

/** Gradients of a {@link Scorer}. Caller owns them. */
export interface ScorerGradients {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** Of each of its own tensors. */
  readonly parameters: RouterParameters;
}

/** Rows to logits: the stage that owns trained tensors. A pair. */
export interface Scorer {
  /** Its tensors for a model width. */
  parameterShapes(modelWidth: number): NamedShapes;
  /** First values of one of its tensors; undefined: as every router begins. */
  initialise?(parameter: string, request: InitialRequest): Float32Array | undefined;
  /** `x` float32 `[T, D]` → logits float32 `[T, W]`. It may be given tensors of other stages too. Borrows in, owned out. */
  forward(x: Tensor2D, parameters: RouterParameters, options: RouterOptions): Forward<Tensor2D, unknown>;
  /** Of `dlogits` float32 `[T, W]`. Borrows in, owned out. */
  backward(saved: unknown, dlogits: Tensor2D): ScorerGradients;
}

/** Random numbers of a training step. Stages are skipped where `options.rng` is absent. */
export interface Noise {
  /** Multiplies the rows before the scorer: Float32Array `[T, D]` of factors. */
  readonly factors?: (size: number, rng: Rng) => Float32Array;
  /** Added to the logits: Float32Array `[T, W]` of draws. */
  readonly draws?: (size: number, rng: Rng) => Float32Array;
  /** Multiplies the draws: learned, from the rows. */
  readonly deviation?: Scorer;
}

/** What a choice is made from. Host arrays, only read. */
export interface ChooseInput {
  /** `T`. */
  readonly tokens: number;
  /** `E`. */
  readonly experts: number;
  /** Columns `W` of the logits: `experts`, and null experts after them. */
  readonly width: number;
  /** `[T, W]`, finite where the token is routed. */
  readonly logits: ArrayLike<number>;
  /** Float64Array `[T, W]`: the score function of the logits; computed on the first call. Rows of masked tokens are 0. */
  readonly scores: () => Float64Array;
  /** Uint8Array `[T]`, 0 must get no pair. */
  readonly mask?: Uint8Array;
  /** Everything else a router is told: phase, step, ids, sequences. */
  readonly options: RouterOptions;
  /** Of the router. */
  readonly buffers: RouterBuffers;
  /** For this stage alone; absent outside training. */
  readonly rng?: Rng;
}

/** Who was chosen. Fresh arrays, kept by the plan. */
export interface Choice {
  /** Int32Array `[N]`, columns grouped by token, best first. Those from `experts` on are null: they get no pair. */
  readonly ids: Int32Array;
  /** Int32Array `[T+1]`: token `t` owns entries `tokenOffsets[t] … tokenOffsets[t+1]` of `ids`. */
  readonly tokenOffsets: Int32Array;
  /** Uint8Array `[T, E]`: experts whose scores are summed when weights are renormalised, at least one a row. Default: the chosen. */
  readonly among?: Uint8Array;
}

/** The choice: numbers in, integers out. It is where families differ most, and it is tested without a tensor. */
export type Choose = (input: ChooseInput) => Choice;

/** What weights are made from. Borrowed. */
export interface WeighInput {
  /** float32 `[T, E]`. */
  readonly logits: Tensor2D;
  /** float32 `[T, E]`. */
  readonly scores: Tensor2D;
  /** Who goes where. */
  readonly plan: DispatchPlan;
  /** float32 `[T, W]`: `scores` with the columns of null experts. */
  readonly allScores: Tensor2D;
  /** Of the {@link Choice}. */
  readonly among?: Uint8Array;
}

/** Scores to the weights of pairs: a pair whose gradient goes to scores or logits, never through the choice. Runs in a scope. */
export interface Weigh {
  /** → float32 `[N]` in plan order. */
  forward(input: WeighInput): Forward<Tensor1D, unknown>;
  /** Of `dweights` float32 `[N]` → float32 `[T, E]`, or `[T, W]` where it reads all columns. */
  backward(saved: unknown, dweights: Tensor1D): { readonly dlogits?: Tensor2D; readonly dscores?: Tensor2D };
}

/** Numbers that no gradient moves. */
export interface BufferStage {
  /** By name. */
  readonly shapes: NamedShapes;
  /** First values; default 0. */
  readonly initialise?: (buffer: string, length: number) => Float32Array;
  /** After a training step, fresh arrays. Absent: they stay. */
  readonly advance?: (buffers: RouterBuffers, seen: RouterLoad) => RouterBuffers;
}

/** A gate as stages. */
export interface RouterStages {
  /** Of the router. */
  readonly name: string;
  /** `E`. */
  readonly experts: number;
  /** Experts of a token; the mean where it varies. */
  readonly topK: number;
  /** Null experts: columns `E … E + nulls` that take part in scores and choice and have no expert behind them. Default 0. */
  readonly nulls?: number;
  /** Rows to logits. */
  readonly scorer: Scorer;
  /** Default none. */
  readonly noise?: Noise;
  /** Logits to scores. */
  readonly score: GateScore;
  /** Who goes where. */
  readonly choose: Choose;
  /** Scores to weights. */
  readonly weigh: Weigh;
  /** Default none. */
  readonly buffers?: BufferStage;
  /** Whether a token's experts depend on nothing that comes after it. Default true. */
  readonly causal?: boolean;
  /** Outputs are not checked again: for stages that pass `describeRouter`. Default false. */
  readonly trusted?: boolean;
}
