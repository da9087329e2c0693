/**
 * @file Where one parameter and its optimizer moments lie. Portable slots hold tensors; native slots hold resource
 * variables that are updated in place.
 */
import type { Tensor } from '@tensorflow/tfjs';

/** First and second moment of one parameter and the number of updates they have seen. */
export interface Moments {
  /** float32, shape of the parameter: running mean of gradients. */
  readonly first: Tensor;
  /** float32, shape of the parameter: running mean of squared gradients. */
  readonly second: Tensor;
  /** Updates so far. */
  readonly step: number;
}

/** One parameter with its moments. */
export interface ParameterSlot {
  /** Shape of the parameter. */
  readonly shape: readonly number[];
  /** Updates so far; 0: no moments yet. */
  readonly step: number;
  /** The value, borrowed until the next change. */
  read(): Tensor;
  /** Replaces the value; the tensor is borrowed. */
  assign(value: Tensor): void;
  /** Handles on the moments that keep their values, owned by the caller; undefined before the first update. */
  holdMoments(): Moments | undefined;
  /** Replaces the moments; the tensors are borrowed. */
  assignMoments(moments: Moments): void;
  /** Frees everything. */
  dispose(): void;
}

/** Numbers of one AdamW step that are the same for every parameter of a call. */
export interface AdamWStep {
  /** Learning rate. */
  readonly lr: number;
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Added to the root of the second moment. */
  readonly epsilon: number;
  /** Multiplies every gradient first (accumulation and clipping). */
  readonly gradientScale: number;
  /** Number of this update, from 1: the exponent of the bias corrections. */
  readonly step: number;
}

/** One parameter's part of an update. */
export interface AdamWPart {
  /** What is updated. */
  readonly slot: ParameterSlot;
  /** float32, shape of the parameter, borrowed. */
  readonly gradient: Tensor;
  /** Decoupled weight decay. */
  readonly weightDecay: number;
}

/** Makes and updates the slots of one engine. */
export interface SlotKind {
  /** A slot with this value; the tensor is borrowed. */
  create(value: Tensor): ParameterSlot;
  /** One AdamW step on slots of this kind that have all seen `step − 1` updates. */
  adamW(parts: readonly AdamWPart[], step: AdamWStep): void;
}
