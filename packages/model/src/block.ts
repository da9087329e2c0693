/**
 * @file The port of a decoder block, and what a pass hands to it.
 *
 * A block maps `(x, taps)` to `(y, taps)`: taps are named tensors that earlier blocks offer to later ones (a shortcut
 * layer routes the previous layer's hidden state). Blocks are tasks because their experts may have to be waited for.
 *
 * Letters: `T` tokens = B·S · `D` model width.
 */
import type { Rng, Task } from '@moebius/core';
import type { BalanceLoss, GateObservation, RouterPhase, RouteStats } from '@moebius/routing';
import type { KvCache, RotaryTable, Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

/** Tensors that blocks offer to later blocks, by name; float32 `[T, D]`. */
export interface Taps {
  readonly [name: string]: Tensor2D;
}

/** Gradients by parameter id; the caller owns them. */
export interface ParameterGradients {
  readonly [id: string]: Tensor;
}

/** What one forward pass hands to every block. Tensors are borrowed. */
export interface ForwardPass {
  /** Sequences `B`. */
  readonly batch: number;
  /** int32 `[T]`, the position of every token in its sequence. */
  readonly positions: Tensor1D;
  /** The same on the host; never written. */
  readonly hostPositions: Int32Array;
  /** Rotary angles, at least as long as the largest position. */
  readonly table: RotaryTable;
  /** Int32Array `[T]`, token ids; never written. */
  readonly ids: Int32Array;
  /** Uint8Array `[T]`, 0 for padding that is not routed; absent: all tokens are. */
  readonly mask?: Uint8Array;
  /** Int32Array `[T]`, domain of each token, where the caller knows it; never written. */
  readonly domain?: Int32Array;
  /** What the pass is for: routers draw random numbers in `train` only. */
  readonly phase: RouterPhase;
  /** Training step, for schedules of routers. */
  readonly step?: number;
  /** Of this pass; a layer forks its own by its index. Absent: nothing is random. */
  readonly rng?: Rng;
  /** Whether `saved` is wanted. */
  readonly training: boolean;
  /** Where keys and values are kept during generation, or null. */
  readonly cache: KvCache | null;
  /** Called once per sparse layer that routes pairs with what its gate decided; tensors are borrowed for the call. */
  observe(layer: number, observation: GateObservation): void;
}

/** What enters a block. Tensors are borrowed. */
export interface BlockInput {
  /** float32 `[T, D]`, the residual stream. */
  readonly x: Tensor2D;
  /** From earlier blocks. */
  readonly taps: Taps;
}

/** What leaves a block. The caller owns it all. */
export interface BlockOutput {
  /** float32 `[T, D]`, the residual stream. */
  readonly y: Tensor2D;
  /** What this block offers; replaces earlier taps of the same name. */
  readonly taps: Taps;
  /** For `takeBackward`; null unless training. */
  readonly saved: unknown;
}

/** A balance loss in a backward pass. */
export interface BalanceGradient {
  /** The loss. */
  readonly loss: BalanceLoss;
  /** Coefficient times loss scale. */
  readonly scale: number;
  /** Counts of every sparse layer, in layer order. */
  readonly counts: readonly Float64Array[];
  /** Sums of the same layers; only for a loss that needs them. */
  readonly sums?: readonly Float64Array[];
}

/** What one backward pass hands to every block. */
export interface BackwardPass {
  /** Losses on the gates. */
  readonly balance: readonly BalanceGradient[];
}

/** What enters a block's backward. Tensors are borrowed. */
export interface BlockOutputGradient {
  /** float32 `[T, D]`. */
  readonly dy: Tensor2D;
  /** Of the taps that later blocks used; absent means zero. */
  readonly dtaps: Taps;
}

/** What leaves a block's backward. The caller owns it all. */
export interface BlockInputGradient {
  /** float32 `[T, D]`. */
  readonly dx: Tensor2D;
  /** Of the taps this block used. */
  readonly dtaps: Taps;
  /** Of this block's parameters. */
  readonly gradients: ParameterGradients;
}

/** One layer of a decoder. */
export interface Block {
  /** Runs the block. Borrows its input. */
  forward(input: BlockInput, pass: ForwardPass): Task<BlockOutput>;
  /** Gradients of one forward. Frees `saved`, also when it fails. */
  takeBackward(saved: unknown, dy: BlockOutputGradient, pass: BackwardPass): Task<BlockInputGradient>;
}

/** What a forward pass reports of a sparse layer. */
export interface LayerRouting {
  /** Layer index. */
  readonly layer: number;
  /** Loads and balance. */
  readonly stats: RouteStats;
  /** Tokens that were not masked. */
  readonly tokens: number;
}
