/**
 * @file Scorers: rows to logits. The linear one is a pair of the tensor package; others are differentiable functions.
 *
 * Letters: `T` tokens, `D` model width, `W` columns of the logits.
 */
import {
  add,
  fromTfjs,
  linearBackward,
  linearForward,
  mul,
  runOp,
  sum,
  tile,
  zerosLike,
} from '@moebius/tensor';
import type { LinearSaved, Tensor, Tensor1D, Tensor2D, TfjsSaved } from '@moebius/tensor';

import type { InitialRequest, RouterParameters } from '../define-router.ts';
import type { NamedShapes, Scorer } from './stages.ts';

/** Settings of {@link linearScorer}. */
export interface LinearScorerOptions {
  /** `W`. */
  readonly columns: number;
  /** Name of its matrix `[W, D]`. Default `weight`, which is Hugging Face's. */
  readonly weight?: string;
  /** A bias `[W]` named `bias`. Default false. */
  readonly bias?: boolean;
}

/**
 * `z = x Wᵀ (+ b)`.
 *
 * @param options - columns, names
 */
export function linearScorer(options: LinearScorerOptions): Scorer {
  const { columns, weight = 'weight', bias = false } = options;
  return {
    parameterShapes: (modelWidth) => ({
      [weight]: [columns, modelWidth],
      ...(bias ? { bias: [columns] } : {}),
    }),
    forward: (x, parameters) =>
      linearForward(x, parameters[weight] as Tensor2D, bias ? (parameters['bias'] as Tensor1D) : undefined),
    backward: (saved, dlogits) => {
      const { dx, dweight, dbias } = linearBackward(saved as LinearSaved, dlogits);
      return { dx, parameters: { [weight]: dweight, ...(dbias === undefined ? {} : { bias: dbias }) } };
    },
  };
}

/** Settings of {@link scorerOf}. */
export interface ScorerFunction {
  /** For profiles and errors. */
  readonly name: string;
  /** Shapes of its tensors; the names must not depend on the width. */
  readonly parameterShapes: (modelWidth: number) => NamedShapes;
  /** First values; undefined: as every router begins. */
  readonly initialise?: (parameter: string, request: InitialRequest) => Float32Array | undefined;
  /** `x` float32 `[T, D]` and its tensors → float32 `[T, W]`; a pure function of differentiable operations. */
  readonly logits: (x: Tensor2D, parameters: RouterParameters) => Tensor2D;
}

/**
 * A scorer of a differentiable function: its backward computes the function once more on the tape.
 *
 * @param definition - shapes and function
 */
export function scorerOf(definition: ScorerFunction): Scorer {
  const { parameterShapes, initialise, logits, name } = definition;
  const names = Object.keys(parameterShapes(1));
  const pair = fromTfjs(
    (x, ...own) => logits(x as Tensor2D, Object.fromEntries(names.map((key, i) => [key, own[i] as Tensor]))),
    name,
  );
  return {
    parameterShapes,
    ...(initialise === undefined ? {} : { initialise }),
    forward: (x, parameters) => {
      const { value, saved } = pair.forward(x, ...names.map((key) => parameters[key] as Tensor));
      return { value: value as Tensor2D, saved };
    },
    backward: (saved, dlogits) => {
      const [dx, ...own] = pair.backward(saved as TfjsSaved, dlogits);
      return {
        dx: dx as Tensor2D,
        parameters: Object.fromEntries(names.map((key, i) => [key, own[i] as Tensor])),
      };
    },
  };
}

/**
 * Logits 0 for a choice that does not look at the rows (by token id, random). A row with a NaN still has NaN logits, so that it is
 * refused as in every gate. Nothing is trained and no gradient reaches the rows.
 *
 * @param columns - `W`
 */
export function constantScorer(columns: number): Scorer {
  return {
    parameterShapes: () => ({}),
    forward: (x) =>
      runOp('constantScorer', () => ({
        value: tile<Tensor2D>(sum<Tensor2D>(mul(x, 0), 1, true), [1, columns]),
        saved: { x: add(x, 0) },
      })),
    backward: (saved) => ({ dx: zerosLike((saved as { readonly x: Tensor2D }).x), parameters: {} }),
  };
}
